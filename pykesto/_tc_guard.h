/* What Tokyo Cabinet asks of its own files, where its archive is linked: the linker sends it here (setup.py, --wrap).
 *
 * Tables and indexes get and put records through these calls. Each is let through to the library once the blocks that it
 * is going to follow are known to be sound (_tc_blocks.h); a page of an index is checked before it is unpacked.
 * Trees of pages, and chains of leaves, are followed only so far.
 */
#ifndef PYKESTO_TC_GUARD_H
#define PYKESTO_TC_GUARD_H

#include "pykesto/_tc_blocks.h"

#ifdef PYKESTO_TC_ARCHIVE

#pragma GCC visibility push(hidden)

#include <tcbdb.h>

/* --- Pages of indexes -------------------------------------------------------------------------------------------- */

/* A number of up to 64 bits, of which only the size matters here. */
static bool kesto_skip_number(const unsigned char **at, const unsigned char *end)
{
    for (int count = 0; *at < end && count < 10; count++)
        if (*(*at)++ < 0x80)
            return true;
    return false;
}

static bool kesto_skip(const unsigned char **at, const unsigned char *end, int64_t size)
{
    if (size < 0 || size > end - *at)
        return false;
    *at += size;
    return true;
}

/* What an inverted index keeps of a word: rows, and in a q-gram index a position after each. A row is its key, after a
 * zero and its size, or a key that is a number as that. */
static bool kesto_is_posting(const unsigned char *at, const unsigned char *end, bool positions)
{
    while (at < end) {
        if (*at == 0) {
            at++;
            if (!kesto_skip(&at, end, kesto_varint(&at, end)))
                return false;
        } else if (!kesto_skip_number(&at, end)) {
            return false;
        }
        if (positions && kesto_varint(&at, end) < 0)
            return false;
    }
    return true;
}

/* A leaf: its neighbours, then for each key its size, that of its value, a count of further values; and those. */
static bool kesto_is_leaf(const char *path, const unsigned char *at, const unsigned char *end)
{
    size_t length = strlen(path);
    const char *suffix = length > 4 ? path + length - 4 : "";
    bool positions = strcmp(suffix, ".qgr") == 0, inverted = positions || strcmp(suffix, ".tok") == 0;
    if (!kesto_skip_number(&at, end) || !kesto_skip_number(&at, end))
        return false;
    while (at < end) {
        int64_t key = kesto_varint(&at, end);
        int64_t value = key < 0 ? -1 : kesto_varint(&at, end);
        int64_t more = value < 0 ? -1 : kesto_varint(&at, end);
        if (more < 0 || more > end - at || !kesto_skip(&at, end, key))
            return false;
        const unsigned char *posting = at;
        if (!kesto_skip(&at, end, value) || (inverted && !kesto_is_posting(posting, at, positions)))
            return false;
        while (more-- > 0)
            if (!kesto_skip(&at, end, kesto_varint(&at, end)))
                return false;
    }
    return true;
}

/* A node: its first child, then for each further child its number, and the size of the key where it begins. */
static bool kesto_is_node(const unsigned char *at, const unsigned char *end)
{
    if (at == end || *at == 0 || !kesto_skip_number(&at, end))
        return false;
    while (at < end)
        if (*at == 0 || !kesto_skip_number(&at, end) || !kesto_skip(&at, end, kesto_varint(&at, end)))
            return false;
    return true;
}

/* Whether the value of a record is what the kind of its file asks for. */
static bool kesto_is_sound(const TCHDB *hdb, const char *key, const char *value, int size)
{
    const unsigned char *at = (const unsigned char *)value, *end = at + size;
    if (hdb->type == TCDBTTABLE)
        return kesto_is_row(value, size);
    if (hdb->type == TCDBTBTREE)
        return *key == '#' ? kesto_is_node(at, end) : kesto_is_leaf(hdb->path, at, end);
    return true;
}

/* --- Walks through an index -------------------------------------------------------------------------------------- */

/* Pages are found in caches before they are read, so walks in circles are seen only here. */
enum { KESTO_NODES_MAX = 60, KESTO_LEAVES_MAX = 1 << 16 };

static __thread struct {
    int nodes;      /* one after the other: the library has room for 64 */
    int leaves;     /* in one call, or one step of a cursor: a few, unless they are empty */
    bool sound;     /* they were walked through, as the library is about to do at length */
    bool stopped;   /* what is asked for now was refused */
    uint64_t steps; /* since this cursor was put somewhere, or a call of ours began */
    const BDBCUR *cursor;
} kesto_walk;

static inline void kesto_begin_walk(void)
{
    kesto_walk.nodes = kesto_walk.leaves = 0;
    kesto_walk.stopped = kesto_walk.sound = false;
    kesto_walk.steps = 0;
}

/* Nodes are numbered from behind it on, leaves from 1. */
#define KESTO_NODES_BEFORE (((uint64_t)1 << 48) + 1)

/* The caches of pages are asked by this call, and nothing else is. */
const void *__real_tcmapget3(TCMAP *map, const void *key, int key_size, int *size);
const void *__wrap_tcmapget3(TCMAP *map, const void *key, int key_size, int *size)
{
    uint64_t number;
    memcpy(&number, key, sizeof number);
    if (number > KESTO_NODES_BEFORE) {
        kesto_walk.stopped = ++kesto_walk.nodes > KESTO_NODES_MAX;
    } else {
        kesto_walk.nodes = 0;
        kesto_walk.stopped = !kesto_walk.sound && ++kesto_walk.leaves > KESTO_LEAVES_MAX;
    }
    return kesto_walk.stopped ? NULL : __real_tcmapget3(map, key, key_size, size);
}

/* So an index puts a page that it has read into its cache. */
bool __real_tcmapputkeep(TCMAP *map, const void *key, int key_size, const void *value, int value_size);
bool __wrap_tcmapputkeep(TCMAP *map, const void *key, int key_size, const void *value, int value_size)
{
    bool done = __real_tcmapputkeep(map, key, key_size, value, value_size);
    kesto_hand_over();
    return done;
}

/* Define the call `name` as: the statement `before`, then the library's. */
#define KESTO_BEFORE(result, name, parameters, arguments, before) \
    result __real_##name parameters; \
    result __wrap_##name parameters \
    { \
        before; \
        return __real_##name arguments; \
    }
#define KESTO_KEYED(result, name) \
    KESTO_BEFORE(result, name, (TCBDB * bdb, const void *key, int key_size, const void *value, int value_size), \
                 (bdb, key, key_size, value, value_size), kesto_begin_walk())
KESTO_KEYED(bool, tcbdbput)
KESTO_KEYED(bool, tcbdbputcat)
KESTO_KEYED(bool, tcbdbputdup)
KESTO_BEFORE(bool, tcbdbout, (TCBDB * bdb, const void *key, int size), (bdb, key, size), kesto_begin_walk())
KESTO_BEFORE(const void *, tcbdbget3, (TCBDB * bdb, const void *key, int size, int *value_size),
             (bdb, key, size, value_size), kesto_begin_walk())
KESTO_BEFORE(bool, tcbdbcurfirst, (BDBCUR * cursor), (cursor), kesto_begin_walk())
KESTO_BEFORE(bool, tcbdbcurlast, (BDBCUR * cursor), (cursor), kesto_begin_walk())
KESTO_BEFORE(bool, tcbdbcurjump, (BDBCUR * cursor, const void *key, int size), (cursor, key, size), kesto_begin_walk())
KESTO_BEFORE(bool, tcbdbcurjumpback, (BDBCUR * cursor, const void *key, int size), (cursor, key, size),
             kesto_begin_walk())

KESTO_BEFORE(bool, tcbdbcurout, (BDBCUR * cursor), (cursor), kesto_begin_walk())

static bool kesto_step(BDBCUR *cursor)
{
    kesto_walk.nodes = kesto_walk.leaves = 0;
    if (cursor != kesto_walk.cursor) {
        kesto_walk.cursor = cursor;
        kesto_walk.steps = 0;
    }
    if (++kesto_walk.steps <= cursor->bdb->rnum)
        return true;
    cursor->id = 0; /* it stands nowhere */
    return kesto_note_damage(cursor->bdb->hdb, 0);
}
bool __real_tcbdbcurnext(BDBCUR *cursor);
bool __wrap_tcbdbcurnext(BDBCUR *cursor) { return kesto_step(cursor) && __real_tcbdbcurnext(cursor); }
bool __real_tcbdbcurprev(BDBCUR *cursor);
bool __wrap_tcbdbcurprev(BDBCUR *cursor) { return kesto_step(cursor) && __real_tcbdbcurprev(cursor); }

/* --- Records by their keys --------------------------------------------------------------------------------------- */

/* Pages of indexes: asked for in this way first, and by tchdbget if they are larger. */
int __real_tchdbget3(TCHDB *hdb, const void *key, int key_size, void *value, int max);
int __wrap_tchdbget3(TCHDB *hdb, const void *key, int key_size, void *value, int max)
{
    kesto_block block;
    int size;
    if (kesto_walk.stopped) {
        kesto_note_damage(hdb, 0);
        return -1;
    }
    kesto_call.reading_page = true;
    if (KESTO_FOUND != kesto_find(hdb, key, key_size, &block))
        return -1;
    if (hdb->zmode) {
        size = __real_tchdbget3(hdb, key, key_size, value, max);
    } else {
        size = block.value_size < max ? block.value_size : max;
        memcpy(value, block.value, (size_t)size);
    }
    kesto_let_go(&block);
    if (size >= 0 && size < max && !kesto_is_sound(hdb, key, value, size)) {
        kesto_note_damage(hdb, block.offset);
        return -1;
    }
    return size;
}

void *__real_tchdbget(TCHDB *hdb, const void *key, int key_size, int *size);
void *__wrap_tchdbget(TCHDB *hdb, const void *key, int key_size, int *size)
{
    kesto_block block;
    char *value;
    if (kesto_walk.stopped) {
        kesto_note_damage(hdb, 0);
        return NULL;
    }
    if (KESTO_FOUND != kesto_find(hdb, key, key_size, &block))
        return NULL;
    if (hdb->zmode) {
        kesto_call.writing += hdb->recc != NULL; /* to a cache */
        value = __real_tchdbget(hdb, key, key_size, size);
        kesto_call.writing -= hdb->recc != NULL;
    } else if ((value = malloc((size_t)block.value_size + 1))) {
        memcpy(value, block.value, (size_t)block.value_size);
        value[block.value_size] = '\0';
        *size = block.value_size;
    }
    kesto_let_go(&block);
    if (value && !kesto_is_sound(hdb, key, value, *size)) {
        free(value);
        kesto_note_damage(hdb, block.offset);
        return NULL;
    }
    return value;
}

int __real_tchdbvsiz(TCHDB *hdb, const void *key, int key_size);
int __wrap_tchdbvsiz(TCHDB *hdb, const void *key, int key_size)
{
    kesto_block block;
    if (KESTO_FOUND != kesto_find(hdb, key, key_size, &block))
        return -1;
    kesto_let_go(&block);
    return hdb->zmode ? __real_tchdbvsiz(hdb, key, key_size) : block.value_size;
}

/* Free blocks behind a record that grows: the library would take them. */
static bool kesto_may_grow(TCHDB *hdb, uint64_t end)
{
    kesto_block block;
    for (; end + KESTO_FREE_HEAD <= hdb->fsiz; end += block.size) {
        if (!kesto_get_block(hdb, end, &block))
            return false;
        kesto_let_go(&block);
        if (block.key)
            break;
    }
    return true;
}

/* A record with two children leaves the one at the end of the other's right side. */
static bool kesto_may_take_out(TCHDB *hdb, const kesto_block *leaving)
{
    kesto_block block;
    kesto_trail trail = {0, 0, 0};
    uint64_t offset = leaving->left && leaving->right ? leaving->left : 0;
    for (; offset > 0; offset = block.right) {
        if (offset == leaving->offset || kesto_circles(&trail, offset)) /* it will be a free block by then */
            return kesto_note_damage(hdb, offset);
        if (!kesto_get_block(hdb, offset, &block))
            return false;
        kesto_let_go(&block);
        if (!block.key)
            return kesto_note_damage(hdb, offset);
    }
    return true;
}

bool __real_tchdbput(TCHDB *hdb, const void *key, int key_size, const void *value, int value_size);
static bool kesto_put(TCHDB *hdb, const void *key, int key_size, const void *value, int value_size)
{
    kesto_block block;
    int found = kesto_find(hdb, key, key_size, &block);
    if (found == KESTO_DAMAGED)
        return false;
    if (found == KESTO_FOUND) {
        kesto_let_go(&block);
        if ((block.value_size < value_size || hdb->zmode) && !kesto_may_grow(hdb, block.offset + block.size))
            return false;
    }
    return __real_tchdbput(hdb, key, key_size, value, value_size);
}

bool __wrap_tchdbput(TCHDB *hdb, const void *key, int key_size, const void *value, int value_size)
{
    kesto_call.writing++;
    bool done = kesto_put(hdb, key, key_size, value, value_size);
    kesto_call.writing--;
    return done;
}

bool __real_tchdbout(TCHDB *hdb, const void *key, int key_size);
static bool kesto_out(TCHDB *hdb, const void *key, int key_size)
{
    kesto_block block;
    if (KESTO_FOUND != kesto_find(hdb, key, key_size, &block))
        return false;
    kesto_let_go(&block);
    return kesto_may_take_out(hdb, &block) && __real_tchdbout(hdb, key, key_size);
}

bool __wrap_tchdbout(TCHDB *hdb, const void *key, int key_size)
{
    kesto_call.writing++;
    bool done = kesto_out(hdb, key, key_size);
    kesto_call.writing--;
    return done;
}

/* --- All records ------------------------------------------------------------------------------------------------- */

bool __real_tchdbiterinit2(TCHDB *hdb, const void *key, int key_size);
bool __wrap_tchdbiterinit2(TCHDB *hdb, const void *key, int key_size)
{
    kesto_block block;
    if (KESTO_FOUND != kesto_find(hdb, key, key_size, &block))
        return false;
    kesto_let_go(&block);
    hdb->iter = block.offset;
    return true;
}

static char *kesto_copied(const char *data, int size)
{
    char *copy = malloc((size_t)size + 1);
    if (copy) {
        memcpy(copy, data, (size_t)size);
        copy[size] = '\0';
    }
    return copy;
}

void *__real_tchdbiternext(TCHDB *hdb, int *size);
void *__wrap_tchdbiternext(TCHDB *hdb, int *size)
{
    kesto_block block;
    if (hdb->iter == 0)
        return __real_tchdbiternext(hdb, size); /* which says that there is no iterator */
    if (!kesto_next_record(hdb, &hdb->iter, &block))
        return NULL;
    char *key = kesto_copied(block.key, block.key_size);
    *size = block.key_size;
    kesto_let_go(&block);
    return key;
}

bool __real_tchdbiternext3(TCHDB *hdb, TCXSTR *key, TCXSTR *value);
bool __wrap_tchdbiternext3(TCHDB *hdb, TCXSTR *key, TCXSTR *value)
{
    kesto_block block;
    uint64_t offset = hdb->iter;
    if (offset == 0 || !kesto_next_record(hdb, &offset, &block))
        return offset == 0 && __real_tchdbiternext3(hdb, key, value);
    hdb->iter = block.offset;
    kesto_let_go(&block);
    if (!__real_tchdbiternext3(hdb, key, value))
        return false;
    if (!kesto_is_sound(hdb, tcxstrptr(key), tcxstrptr(value), tcxstrsize(value)))
        return kesto_note_damage(hdb, block.offset);
    return true;
}

char *__real_tchdbgetnext3(TCHDB *hdb, const char *key, int key_size, int *size, const char **value, int *value_size);

/* Where the last one was found: its key must lead there again. It doesn't where another record has that key, and a scan
 * would go back and forth between the two. */
static __thread struct {
    const TCHDB *hdb;
    uint64_t offset;
} kesto_scan;

char *__wrap_tchdbgetnext3(TCHDB *hdb, const char *key, int key_size, int *size, const char **value, int *value_size)
{
    kesto_block block;
    char *found = NULL;
    uint64_t offset = hdb->frec;
    if (key) {
        if (KESTO_FOUND != kesto_find(hdb, key, key_size, &block))
            return NULL;
        kesto_let_go(&block);
        if (kesto_scan.hdb == hdb && kesto_scan.offset != block.offset) {
            kesto_note_damage(hdb, block.offset);
            return NULL;
        }
        offset = block.offset + block.size;
    }
    if (!kesto_next_record(hdb, &offset, &block))
        return NULL;
    kesto_scan.hdb = hdb;
    kesto_scan.offset = block.offset;
    if (hdb->zmode) {
        found = __real_tchdbgetnext3(hdb, key, key_size, size, value, value_size);
    } else if ((found = malloc((size_t)block.key_size + (size_t)block.value_size + 1))) {
        memcpy(found, block.key, (size_t)block.key_size);
        memcpy(found + block.key_size, block.value, (size_t)block.value_size);
        found[block.key_size + block.value_size] = '\0';
        *size = block.key_size;
        *value = found + block.key_size;
        *value_size = block.value_size;
    }
    kesto_let_go(&block);
    if (found && !kesto_is_sound(hdb, found, *value, *value_size)) {
        free(found);
        kesto_note_damage(hdb, block.offset);
        return NULL;
    }
    return found;
}

TCLIST *__real_tchdbfwmkeys(TCHDB *hdb, const void *prefix, int size, int max);
TCLIST *__wrap_tchdbfwmkeys(TCHDB *hdb, const void *prefix, int size, int max)
{
    kesto_block block;
    TCLIST *keys = tclistnew();
    uint64_t offset = hdb->frec;
    while ((max < 0 || tclistnum(keys) < max) && kesto_next_record(hdb, &offset, &block)) {
        if (block.key_size >= size && memcmp(block.key, prefix, (size_t)size) == 0)
            tclistpush(keys, block.key, block.key_size);
        kesto_let_go(&block);
    }
    return keys;
}

/* The library copies leaf after leaf, into a file that grows. */
bool __real_tcbdboptimize(TCBDB *bdb, int32_t lmemb, int32_t nmemb, int64_t bnum, int8_t apow, int8_t fpow, uint8_t opts);
bool __wrap_tcbdboptimize(TCBDB *bdb, int32_t lmemb, int32_t nmemb, int64_t bnum, int8_t apow, int8_t fpow, uint8_t opts)
{
    BDBCUR *cursor = tcbdbcurnew(bdb);
    for (bool more = __wrap_tcbdbcurfirst(cursor); more; more = __wrap_tcbdbcurnext(cursor))
        continue;
    tcbdbcurdel(cursor);
    if (kesto_damaged.found)
        return false;
    kesto_walk.sound = true;
    bool done = __real_tcbdboptimize(bdb, lmemb, nmemb, bnum, apow, fpow, opts);
    kesto_begin_walk();
    return done;
}

#pragma GCC visibility pop

/* --- Compressed records ------------------------------------------------------------------------------------------ */

/* What the library's call by this name decompresses with; it waits for ever for the rest of a record that is cut short. */
extern char *(*_tc_bzdecompress)(const char *data, int size, int *result_size);

/* Of libbz2, whose headers need not be there. */
int BZ2_bzBuffToBuffDecompress(char *to, unsigned *to_size, char *from, unsigned from_size, int small, int verbosity);
enum { KESTO_BZ_OK = 0, KESTO_BZ_OUTBUFF_FULL = -8 };

static char *kesto_bzdecompress(const char *data, int size, int *result_size)
{
    for (unsigned room = (unsigned)size * 4 + 4096; room > (unsigned)size && room < INT_MAX; room *= 2) {
        unsigned made = room;
        char *result = malloc((size_t)room + 1);
        if (!result)
            return NULL;
        int code = BZ2_bzBuffToBuffDecompress(result, &made, (char *)data, (unsigned)size, 0, 0);
        if (code == KESTO_BZ_OK) {
            result[made] = '\0';
            *result_size = (int)made;
            return result;
        }
        free(result);
        if (code != KESTO_BZ_OUTBUFF_FULL)
            return NULL;
    }
    return NULL;
}

__attribute__((constructor)) static void kesto_install(void) { _tc_bzdecompress = kesto_bzdecompress; }

/* TCBS: the library computes room in a C int, for up to nine times the data; and of blocks of so many bytes, each after a
 * number of two, it takes a last one of a single byte for one of -1. */
enum { KESTO_TCBS_MAX = INT_MAX / 9 - 4096, KESTO_TCBS_BLOCK = 8192 + 2 };

/* How many bytes the code of a record stands for (Elias gamma; three bits of the first byte tell how many of the last). */
static int64_t kesto_tcbs_size(const unsigned char *data, int size)
{
    int64_t end = size > 0 ? 3 + (int64_t)(size - 1) * 8 + (data[0] & 7) - 3 : 0, count = 0;
    for (int64_t bit = 3; bit < end; count++) {
        int64_t zeros = 0;
        while (bit < end && !(data[bit / 8] >> bit % 8 & 1)) {
            zeros++;
            bit++;
        }
        bit += 1 + zeros;
    }
    return count;
}

static char *kesto_refused(const char *call)
{
    errno = EFBIG;
    kesto_note(call, TCEMISC);
    return NULL;
}

char *__real_tcbsdecode(const char *data, int size, int *result_size);
char *__wrap_tcbsdecode(const char *data, int size, int *result_size)
{
    if (size > KESTO_TCBS_MAX)
        return kesto_refused("tcbsdecode");
    if (kesto_tcbs_size((const unsigned char *)data, size) % KESTO_TCBS_BLOCK == 1)
        return NULL;
    return __real_tcbsdecode(data, size, result_size);
}

char *__real_tcbsencode(const char *data, int size, int *result_size);
char *__wrap_tcbsencode(const char *data, int size, int *result_size)
{
    return size > KESTO_TCBS_MAX ? kesto_refused("tcbsencode") : __real_tcbsencode(data, size, result_size);
}

#else

static inline void kesto_begin_walk(void) {}

#endif

/* At the beginning of every call of ours: nothing has failed. */
static inline void kesto_begin(void)
{
    kesto_io_begin();
    kesto_damaged.found = false;
    kesto_begin_walk();
}

#endif
