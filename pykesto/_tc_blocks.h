/* Tokyo Cabinet's hash files, read with every number checked: the library believes them.
 *
 * A bit that flipped in a file makes the library loop, allocate gigabytes, or read and write where nothing is; it has no
 * checksums. Here records are found and walked by code of our own, which follows no offset out of the file and no chain
 * twice. What is damaged is noted for the thread. Data that are wrong and yet well formed can't be told from right ones.
 */
#ifndef PYKESTO_TC_BLOCKS_H
#define PYKESTO_TC_BLOCKS_H

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <tchdb.h>

#include "pykesto/_tc_memory.h"

enum {
    KESTO_RECORD = 0xc8, /* the first byte of a record, */
    KESTO_FREE = 0xb0,   /* and of a free block */
    KESTO_FREE_HEAD = 5,
    KESTO_READ = 1024, /* read at once where the file is not mapped */
};

/* The first damage since kesto_begin: the place, and the file. */
typedef struct {
    bool found;
    uint64_t offset;
    char path[PATH_MAX];
} kesto_damage;

static __thread kesto_damage kesto_damaged;

/* A record, or a free block (then `key` is NULL). What is not in the map is in `copy`. */
typedef struct {
    uint64_t offset, size; /* of the whole block */
    uint64_t left, right;  /* in the tree of its bucket */
    const char *key, *value;
    int key_size, value_size;
    uint8_t hash;
    void *copy;
    char read[KESTO_READ];
} kesto_block;

static inline void kesto_let_go(kesto_block *block)
{
    free(block->copy);
    block->copy = NULL;
}

static bool kesto_note_damage(TCHDB *hdb, uint64_t offset)
{
    if (!kesto_damaged.found) {
        kesto_damaged.found = true;
        kesto_damaged.offset = offset;
        snprintf(kesto_damaged.path, sizeof kesto_damaged.path, "%s", hdb->path ? hdb->path : "");
    }
    hdb->ecode = TCERHEAD;
    return false;
}

/* --- Bytes of the file ------------------------------------------------------------------------------------------- */

static inline uint64_t kesto_mapped(const TCHDB *hdb)
{
    uint64_t size = hdb->xmsiz > hdb->msiz ? hdb->xmsiz : hdb->msiz;
    return size < hdb->fsiz ? size : hdb->fsiz;
}

static bool kesto_read(TCHDB *hdb, void *data, uint64_t size, uint64_t offset)
{
#ifdef PYKESTO_TC_ARCHIVE
    if (__wrap_pread(hdb->fd, data, size, (int64_t)offset) == (ssize_t)size)
#else
    if (pread(hdb->fd, data, size, (off_t)offset) == (ssize_t)size)
#endif
        return true;
    return kesto_note_damage(hdb, offset);
}

/* Numbers are in the byte order that the library was built for, which need not be the machine's (Debian's is big-endian).
 * The header tells: the library has read the place of the first record from it. */
enum { KESTO_FREC_OFFSET = 64 };

static inline bool kesto_swapped(const TCHDB *hdb)
{
    return memcmp(hdb->map + KESTO_FREC_OFFSET, &hdb->frec, sizeof hdb->frec) != 0;
}

static inline uint64_t kesto_number(const void *at, bool wide, bool swapped)
{
    uint64_t number64;
    uint32_t number32;
    if (wide) {
        memcpy(&number64, at, sizeof number64);
        return swapped ? __builtin_bswap64(number64) : number64;
    }
    memcpy(&number32, at, sizeof number32);
    return swapped ? __builtin_bswap32(number32) : number32;
}

/* A size of at most INT_MAX: 7 bits a byte, lowest first, all but the last complemented. -1: there is none. */
static inline int64_t kesto_varint(const unsigned char **at, const unsigned char *end)
{
    uint64_t number = 0;
    for (int shift = 0; *at < end && shift <= 28; shift += 7) {
        unsigned char byte = *(*at)++;
        if (byte < 0x80) {
            number |= (uint64_t)byte << shift;
            return number > INT32_MAX || (byte == 0 && shift > 0) ? -1 : (int64_t)number;
        }
        number |= (uint64_t)(byte ^ 0xff) << shift;
    }
    return -1;
}

/* --- Blocks ------------------------------------------------------------------------------------------------------ */

/* The block at an offset; where it is a record, with its key and its value. */
static bool kesto_get_block(TCHDB *hdb, uint64_t offset, kesto_block *block)
{
    block->copy = NULL;
    if (offset < hdb->frec || offset > hdb->fsiz - KESTO_FREE_HEAD)
        return kesto_note_damage(hdb, offset);
    uint64_t rest = hdb->fsiz - offset, mapped = kesto_mapped(hdb), head_size = rest < KESTO_READ ? rest : KESTO_READ, seen;
    const unsigned char *start, *at, *end;
    if (offset + head_size <= mapped) {
        start = (const unsigned char *)hdb->map + offset;
        seen = mapped - offset;
    } else {
        if (!kesto_read(hdb, block->read, head_size, offset))
            return false;
        start = (const unsigned char *)block->read;
        seen = head_size;
    }
    bool swapped = kesto_swapped(hdb);
    at = start + 1;
    end = start + seen;
    block->offset = offset;
    if (*start == KESTO_FREE) {
        block->key = NULL;
        block->size = kesto_number(at, false, swapped);
        return block->size > 0 && block->size <= rest ? true : kesto_note_damage(hdb, offset);
    }
    bool wide = hdb->ba64 != NULL;
    int fixed = 2 + (wide ? 16 : 8) + 2;
    if (*start != KESTO_RECORD || seen < (uint64_t)fixed + 2)
        return kesto_note_damage(hdb, offset);
    block->hash = *at++;
    block->left = kesto_number(at, wide, swapped) << hdb->apow;
    at += wide ? 8 : 4;
    block->right = kesto_number(at, wide, swapped) << hdb->apow;
    at += wide ? 8 : 4;
    uint16_t padding;
    memcpy(&padding, at, sizeof padding);
    if (swapped)
        padding = __builtin_bswap16(padding);
    at += 2;
    int64_t key_size = kesto_varint(&at, end), value_size = key_size < 0 ? -1 : kesto_varint(&at, end);
    if (value_size < 0 || key_size == 0) /* nobody stores an empty key */
        return kesto_note_damage(hdb, offset);
    uint64_t head = (uint64_t)(at - start), body = (uint64_t)key_size + (uint64_t)value_size;
    block->size = head + body + padding;
    if (block->size > rest)
        return kesto_note_damage(hdb, offset);
    if (head + body > seen) {
        if (!(block->copy = malloc(body)) || !kesto_read(hdb, block->copy, body, offset + head)) {
            kesto_let_go(block);
            return kesto_note_damage(hdb, offset);
        }
        at = block->copy;
    }
    block->key = (const char *)at;
    block->key_size = (int)key_size;
    block->value = (const char *)at + key_size;
    block->value_size = (int)value_size;
    return true;
}

/* The next record from `*offset` on, which moves behind it. false: there is none, or damage. */
static bool kesto_next_record(TCHDB *hdb, uint64_t *offset, kesto_block *block)
{
    while (*offset < hdb->fsiz) {
        if (!kesto_get_block(hdb, *offset, block))
            return false;
        *offset += block->size;
        if (block->key)
            return true;
    }
    hdb->ecode = TCENOREC;
    return false;
}

/* --- Trees of records -------------------------------------------------------------------------------------------- */

/* A chain that comes back to a place will come back to this one (Brent). */
typedef struct {
    uint64_t place, hops, renewed;
} kesto_trail;

static inline bool kesto_circles(kesto_trail *trail, uint64_t place)
{
    if (trail->hops > 0 && place == trail->place)
        return true;
    if (trail->hops++ >= trail->renewed) {
        trail->place = place;
        trail->renewed = trail->hops * 2;
    }
    return false;
}

static inline uint64_t kesto_bucket(const TCHDB *hdb, const char *key, int key_size, uint8_t *hash)
{
    uint64_t index = 19780211;
    uint32_t second = 751;
    for (int i = 0; i < key_size; i++) {
        index = index * 37 + (uint8_t)key[i];
        second = (second * 31) ^ (uint8_t)key[key_size - 1 - i];
    }
    *hash = (uint8_t)second;
    index %= hdb->bnum;
    const void *bucket = hdb->ba64 ? (const void *)&hdb->ba64[index] : (const void *)&hdb->ba32[index];
    return kesto_number(bucket, hdb->ba64 != NULL, kesto_swapped(hdb)) << hdb->apow;
}

enum { KESTO_FOUND, KESTO_ABSENT, KESTO_DAMAGED };

static inline int kesto_order(const char *key, int key_size, uint8_t hash, const kesto_block *block)
{
    if (hash != block->hash)
        return (int)hash - (int)block->hash;
    return key_size != block->key_size ? key_size - block->key_size : memcmp(key, block->key, (size_t)key_size);
}

static int kesto_find(TCHDB *hdb, const char *key, int key_size, kesto_block *block)
{
    uint8_t hash;
    kesto_trail trail = {0, 0, 0};
    uint64_t offset = kesto_bucket(hdb, key, key_size, &hash);
    while (offset > 0) {
        if (kesto_circles(&trail, offset) || !kesto_get_block(hdb, offset, block) || !block->key) {
            kesto_note_damage(hdb, offset);
            return KESTO_DAMAGED;
        }
        int order = kesto_order(key, key_size, hash, block);
        if (order == 0)
            return KESTO_FOUND;
        offset = order > 0 ? block->left : block->right;
        kesto_let_go(block);
    }
    hdb->ecode = TCENOREC;
    return KESTO_ABSENT;
}

enum { KESTO_AT_ONCE = 64, KESTO_STEPS = 24, KESTO_LINE = 64 };

/* A key that is looked for, and where its record is; 0: `kesto_find` is to look, and say what is wrong. */
typedef struct {
    const char *key;
    int key_size;
    uint8_t hash;
    uint64_t offset;
} kesto_wanted;

/* Have the head of the record read; false, and no place, if there is none in the map. */
static inline bool kesto_ask_for(const TCHDB *hdb, uint64_t mapped, kesto_wanted *one)
{
    if (one->offset == 0 || one->offset + KESTO_READ > mapped) {
        one->offset = 0;
        return false;
    }
    /* Whatever it is: a prefetch may be dropped where the processor does not know the page. */
    (void)*(const volatile char *)(hdb->map + one->offset);
    __builtin_prefetch(hdb->map + one->offset + KESTO_LINE);
    return true;
}

/* Find up to KESTO_AT_ONCE records, each by a step of its tree in turn, so that their waits for memory overlap. */
static void kesto_find_many(TCHDB *hdb, kesto_wanted *wanted, int count)
{
    uint64_t mapped = kesto_mapped(hdb);
    uint8_t active[KESTO_AT_ONCE];
    int left = 0;
    for (int i = 0; i < count; i++)
        wanted[i].offset = kesto_bucket(hdb, wanted[i].key, wanted[i].key_size, &wanted[i].hash);
    for (int i = 0; i < count; i++)
        if (kesto_ask_for(hdb, mapped, &wanted[i]))
            active[left++] = (uint8_t)i;
    for (int step = 0; left > 0; step++) {
        int going = 0;
        for (int j = 0; j < left; j++) {
            kesto_wanted *one = &wanted[active[j]];
            kesto_block block;
            if (step == KESTO_STEPS || !kesto_get_block(hdb, one->offset, &block) || !block.key) {
                one->offset = 0;
                continue;
            }
            int order = kesto_order(one->key, one->key_size, one->hash, &block);
            kesto_let_go(&block);
            if (order == 0) {
                __builtin_prefetch(hdb->map + one->offset + 2 * KESTO_LINE);
                continue;
            }
            one->offset = order > 0 ? block.left : block.right;
            if (kesto_ask_for(hdb, mapped, one))
                active[going++] = active[j];
        }
        left = going;
    }
}

/* Whether every record is found by its key, and nothing else leads to it. Where records are moved, as defragmenting does,
 * the library mends the one link on that way; another would lead it anywhere. */
static bool kesto_is_forest(TCHDB *hdb)
{
    kesto_block block, found;
    uint64_t records = 0, links = 0;
    bool wide = hdb->ba64 != NULL;
    for (uint64_t offset = hdb->frec; kesto_next_record(hdb, &offset, &block);) {
        bool same = kesto_find(hdb, block.key, block.key_size, &found) == KESTO_FOUND;
        if (same)
            kesto_let_go(&found);
        kesto_let_go(&block);
        if (!same || found.offset != block.offset)
            return kesto_note_damage(hdb, block.offset);
        records++;
        links += (block.left > 0) + (block.right > 0);
    }
    for (uint64_t i = 0; i < hdb->bnum; i++)
        links += wide ? hdb->ba64[i] != 0 : hdb->ba32[i] != 0;
    return !kesto_damaged.found && (links == records || kesto_note_damage(hdb, 0));
}

/* Whether a row is a sequence of names and values. */
static bool kesto_is_row(const char *row, int size)
{
    const unsigned char *at = (const unsigned char *)row, *end = at + size;
    while (at < end) {
        for (int i = 0; i < 2; i++) {
            int64_t length = kesto_varint(&at, end);
            if (length < 0 || length > end - at)
                return false;
            at += length;
        }
    }
    return true;
}
#endif
