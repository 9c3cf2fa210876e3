/* Memory for Tokyo Cabinet, which ends the process where malloc fails.
 *
 * Every call that may allocate is made through _tc_calls.h, and left by a jump where no memory is left. Some is held back
 * for what may not be left in the midst: what a file keeps of itself while it changes. Where a call is
 * left that reads, the blocks that it had are freed, and the table is as it was. Where it writes the table is lost: see
 * kesto_forsake.
 *
 * With the shared library (no PYKESTO_TC_ARCHIVE) nothing is held back nor freed, and each table is lost that is left.
 */
#ifndef PYKESTO_TC_MEMORY_H
#define PYKESTO_TC_MEMORY_H

#include <pthread.h>
#include <setjmp.h>
#include <stdbool.h>

#include <tctdb.h>

#include "pykesto/_tc_io.h"

enum {
    KESTO_RESERVE_BYTES = 1 << 20,
    KESTO_COPIES = 6,        /* of a row, that the library makes to store it */
    KESTO_BLOCKS_FIRST = 32, /* a power of 2 */
};

/* A hash table of blocks, half full at most. */
typedef struct {
    void **at;
    size_t count, room;
    void *first[KESTO_BLOCKS_FIRST];
} kesto_blocks;

/* The call of the library that a thread is in. */
typedef struct {
    jmp_buf *exit;        /* where a failing malloc leads; NULL: the thread is in none */
    bool tracking;        /* the call may be left wherever it does not write: it is known what it has allocated */
    int writing;          /* how many calls in it write */
    bool reading_page;    /* of an index, which does not have it yet */
    kesto_blocks blocks;  /* what it allocated, */
    kesto_blocks page;    /* and what for that page */
    bool short_of_memory; /* it goes on with what was held back */
    TCTDB *table;         /* whose files may be opened and closed, or NULL */
    TDBIDX *indexes;      /* of that table, as the call began: it has none while a longer list can't be had */
    uint64_t number;      /* of this call */
    kesto_descriptors opened; /* in it, where another has begun since */
} kesto_call_state;

static __thread kesto_call_state kesto_call;
static __thread uint64_t kesto_calls;

/* How many tables are lost and have not been let go of. */
static int kesto_lost_count;

/* A file was unmapped in the call that was left, and which is not known. */
static __thread bool kesto_unmapped;

static void kesto_leave(void)
{
    errno = ENOMEM;
    kesto_note("malloc", TCEMISC);
    if (kesto_call.exit)
        longjmp(*kesto_call.exit, 1);
}

static void kesto_fatal(const char *message)
{
    (void)message;
    kesto_leave();
}

/* Once, before any call. The library's own locks are made here: their making is nothing to be left. */
static void kesto_catch_fatal(void)
{
    tcfatalfunc = kesto_fatal;
    if (tcglobalmutexlock())
        tcglobalmutexunlock();
}

/* --- Memory that is held back ------------------------------------------------------------------------------------- */

#ifdef PYKESTO_TC_ARCHIVE

static void *kesto_reserve;

void *__real_malloc(size_t size); /* by this name the compiler leaves out no attempt */
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void __real_free(void *block);

static void kesto_hold_back(void)
{
    void *none = NULL, *block = __real_malloc(KESTO_RESERVE_BYTES);
    if (!__atomic_compare_exchange_n(&kesto_reserve, &none, block, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        __real_free(block);
}

/* Give it up; false: it was already. The call goes on, and is told to have failed. */
static bool kesto_use_reserve(void)
{
    void *reserve = __atomic_exchange_n(&kesto_reserve, NULL, __ATOMIC_RELAXED);
    errno = ENOMEM;
    kesto_note("malloc", TCEMISC);
    kesto_call.short_of_memory = true;
    __real_free(reserve);
    return reserve != NULL;
}

#endif

/* Whether a row of this size can be stored: the library makes some copies of it. */
static int kesto_has_room(int64_t size)
{
#ifdef PYKESTO_TC_ARCHIVE
    void *block;
    if (size * KESTO_COPIES < KESTO_RESERVE_BYTES)
        return 1;
    block = __real_malloc((size_t)size * KESTO_COPIES);
    __real_free(block);
    return block != NULL;
#else
    return size >= 0;
#endif
}

/* Whether a call may begin: not while there is not even the memory to hold back. */
static inline int kesto_io_ready(void)
{
#ifdef PYKESTO_TC_ARCHIVE
    if (!kesto_reserve)
        kesto_hold_back();
    return kesto_reserve != NULL;
#else
    return 1;
#endif
}

/* --- Blocks of a call --------------------------------------------------------------------------------------------- */

#ifdef PYKESTO_TC_ARCHIVE

/* How many calls there are that track what they allocate. */
static int kesto_tracking_count;

static inline bool kesto_is_tracking(void)
{
    return __atomic_load_n(&kesto_tracking_count, __ATOMIC_RELAXED) > 0 && kesto_call.tracking;
}

static void kesto_drop(kesto_blocks *blocks)
{
    if (blocks->at != blocks->first)
        __real_free(blocks->at);
    blocks->at = blocks->first;
    blocks->count = blocks->room = 0;
}

static inline size_t kesto_slot(const kesto_blocks *blocks, const void *block)
{
    return (size_t)((((uintptr_t)block >> 4) * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & (blocks->room - 1);
}

static void kesto_keep(kesto_blocks *blocks, void *block)
{
    size_t slot = kesto_slot(blocks, block);
    while (blocks->at[slot])
        slot = (slot + 1) & (blocks->room - 1);
    blocks->at[slot] = block;
    blocks->count++;
}

/* Room for one block more. */
static bool kesto_make_room(kesto_blocks *blocks)
{
    void **old = blocks->at;
    size_t room = blocks->room;
    if (blocks->count * 2 < room)
        return true;
    if (room == 0) {
        memset(blocks->first, 0, sizeof blocks->first);
        blocks->room = KESTO_BLOCKS_FIRST;
        return true;
    }
    void **longer = __real_calloc(room * 2, sizeof *longer);
    if (!longer)
        return false;
    blocks->at = longer;
    blocks->room = room * 2;
    blocks->count = 0;
    for (size_t i = 0; i < room; i++)
        if (old[i])
            kesto_keep(blocks, old[i]);
    if (old != blocks->first)
        __real_free(old);
    return true;
}

static bool kesto_holds(const kesto_blocks *blocks, const void *block, size_t *slot)
{
    for (*slot = kesto_slot(blocks, block); blocks->at[*slot]; *slot = (*slot + 1) & (blocks->room - 1))
        if (blocks->at[*slot] == block)
            return true;
    return false;
}

/* Take a block out, where it is in; those behind it move up, so that each is still found. */
static bool kesto_forget(kesto_blocks *blocks, const void *block)
{
    size_t mask = blocks->room - 1, slot;
    if (blocks->count == 0 || !kesto_holds(blocks, block, &slot))
        return false;
    for (size_t next = (slot + 1) & mask; blocks->at[next]; next = (next + 1) & mask)
        if (((next - kesto_slot(blocks, blocks->at[next])) & mask) >= ((next - slot) & mask)) {
            blocks->at[slot] = blocks->at[next];
            slot = next;
        }
    blocks->at[slot] = NULL;
    blocks->count--;
    return true;
}

static inline bool kesto_forget_any(const void *block)
{
    return kesto_forget(&kesto_call.blocks, block) || kesto_forget(&kesto_call.page, block);
}

/* An index has its page now: these blocks are its own. */
static void kesto_hand_over(void)
{
    kesto_call.reading_page = false;
    if (kesto_call.page.count > 0)
        kesto_drop(&kesto_call.page);
}

static void kesto_free_blocks(kesto_blocks *blocks)
{
    for (size_t i = 0; i < blocks->room; i++)
        __real_free(blocks->at[i]);
}

static inline kesto_blocks *kesto_here(void) { return kesto_call.reading_page ? &kesto_call.page : &kesto_call.blocks; }

/* Whether the call can be left where it is. Where memory failed while it wrote, it is left as soon as it has written. */
static bool kesto_may_leave(void)
{
    if (!kesto_is_tracking() || kesto_call.writing > 0)
        return false;
    if (kesto_call.short_of_memory || !kesto_make_room(kesto_here()))
        kesto_leave();
    return true;
}

#define KESTO_ALLOCATE(name, parameters, arguments, old) \
    void *__wrap_##name parameters \
    { \
        bool leaving = kesto_may_leave(); \
        void *block = __real_##name arguments; \
        if (!block && leaving) \
            kesto_leave(); \
        if (!block && kesto_use_reserve()) \
            block = __real_##name arguments; \
        if (block && old && kesto_is_tracking() && kesto_forget_any(old)) \
            leaving = true; \
        if (block && leaving) \
            kesto_keep(kesto_here(), block); \
        return block; \
    }
KESTO_ALLOCATE(malloc, (size_t size), (size), NULL)
KESTO_ALLOCATE(calloc, (size_t count, size_t size), (count, size), NULL)
KESTO_ALLOCATE(realloc, (void *old, size_t size), (old, size), old)

void __wrap_free(void *block)
{
    if (block && kesto_is_tracking())
        kesto_forget_any(block);
    __real_free(block);
}

#endif

/* --- Calls -------------------------------------------------------------------------------------------------------- */

static void kesto_enter(jmp_buf *exit, TCTDB *table, bool tracking)
{
    kesto_call.exit = exit;
    kesto_call.table = table;
    kesto_call.indexes = table ? table->idxs : NULL;
    kesto_call.writing = 0;
    kesto_call.reading_page = false;
    kesto_call.short_of_memory = false;
    kesto_call.number = ++kesto_calls;
    kesto_opened.count = 0;
#ifdef PYKESTO_TC_ARCHIVE
    kesto_call.tracking = tracking;
    if (tracking)
        __atomic_fetch_add(&kesto_tracking_count, 1, __ATOMIC_RELAXED);
    kesto_call.blocks.at = kesto_call.blocks.first;
    kesto_call.page.at = kesto_call.page.first;
    kesto_call.blocks.count = kesto_call.blocks.room = kesto_call.page.count = kesto_call.page.room = 0;
#else
    (void)tracking;
#endif
}

static void kesto_return(void)
{
    kesto_call.exit = NULL;
    kesto_call.table = NULL;
#ifdef PYKESTO_TC_ARCHIVE
    if (kesto_call.tracking) {
        kesto_drop(&kesto_call.blocks);
        kesto_drop(&kesto_call.page);
        kesto_call.tracking = false;
        __atomic_fetch_sub(&kesto_tracking_count, 1, __ATOMIC_RELAXED);
    }
#endif
}

/* After the jump: free what the call had. Whether the files that it used are as they were. */
static bool kesto_left(void)
{
    bool sound = kesto_call.tracking && kesto_call.writing == 0;
    if (kesto_call.table && !kesto_call.table->idxs)
        kesto_call.table->idxs = kesto_call.indexes;
    kesto_unmapped = kesto_closing.stage != KESTO_USABLE;
    kesto_closing.stage = KESTO_USABLE;
#ifdef PYKESTO_TC_ARCHIVE
    if (kesto_call.tracking)
        kesto_free_blocks(&kesto_call.blocks);
    if (sound)
        kesto_free_blocks(&kesto_call.page);
#endif
    kesto_return();
    return sound;
}

/* Python is about to run in the midst of a call, and may make others. */
static void kesto_suspend(kesto_call_state *outer)
{
    *outer = kesto_call;
    outer->opened = kesto_opened;
    kesto_call.exit = NULL;
    kesto_call.table = NULL;
    kesto_call.tracking = false;
}

/* Those tables that lie in the state itself lie where they lay before. */
static void kesto_resume(const kesto_call_state *outer)
{
    kesto_call = *outer;
    kesto_opened = outer->opened;
}
#endif
