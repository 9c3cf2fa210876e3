/* Tokyo Cabinet's calls that may allocate, as the driver makes them: they fail where memory does (_tc_memory.h).
 *
 * A call that is left by a jump gives NULL, false or -1, and ENOMEM is noted. What was left in the midst of a change is
 * marked as lost: nobody may use it any more, but its files can be closed without the library, and opened again.
 */
#ifndef PYKESTO_TC_CALLS_H
#define PYKESTO_TC_CALLS_H

#include <tcbdb.h>
#include <tctdb.h>

#include "pykesto/_tc_guard.h"

/* --- Paths that are open in this process --------------------------------------------------------------------------- */

#ifdef PYKESTO_TC_ARCHIVE

/* The library's own list is not to be left in the midst of a change: it has a lock. */
typedef struct kesto_path {
    struct kesto_path *next;
    const void *thread; /* that has opened it, */
    uint64_t call;      /* in this call */
    char name[];
} kesto_path;

static kesto_path *kesto_paths;
static pthread_mutex_t kesto_paths_lock = PTHREAD_MUTEX_INITIALIZER;

bool __wrap_tcpathlock(const char *name)
{
    kesto_path *path = __real_malloc(sizeof *path + strlen(name) + 1), *other;
    if (!path) {
        errno = ENOMEM;
        kesto_note("malloc", TCEMISC);
        return false;
    }
    strcpy(path->name, name);
    path->thread = &kesto_call;
    path->call = kesto_call.number;
    pthread_mutex_lock(&kesto_paths_lock);
    for (other = kesto_paths; other && strcmp(other->name, name) != 0; other = other->next)
        continue;
    if (!other) {
        path->next = kesto_paths;
        kesto_paths = path;
    }
    pthread_mutex_unlock(&kesto_paths_lock);
    if (other)
        __real_free(path);
    return !other;
}

/* Take out the path of this name; without one, all that the call has opened which was left. */
static bool kesto_unlock_path(const char *name)
{
    bool found = false;
    pthread_mutex_lock(&kesto_paths_lock);
    for (kesto_path **link = &kesto_paths; *link;) {
        kesto_path *path = *link;
        if (name ? strcmp(path->name, name) == 0 : path->thread == &kesto_call && path->call == kesto_call.number) {
            *link = path->next;
            __real_free(path);
            found = true;
        } else {
            link = &path->next;
        }
    }
    pthread_mutex_unlock(&kesto_paths_lock);
    return found;
}

bool __wrap_tcpathunlock(const char *name) { return kesto_unlock_path(name); }

/* The files of a table, as it closes, are looked at still. */
void __real_tcbdbdel(TCBDB *bdb);
void __wrap_tcbdbdel(TCBDB *bdb)
{
    TCTDB *tdb = kesto_call.table;
    for (int i = 0; tdb && tdb->idxs && i < tdb->inum; i++)
        if (tdb->idxs[i].db == bdb)
            tdb->idxs[i].db = NULL;
    __real_tcbdbdel(bdb);
}

#endif

/* --- Lost tables -------------------------------------------------------------------------------------------------- */

enum { KESTO_LOST = -1952 }; /* where the library keeps a descriptor for debugging */

static void kesto_lose(TCHDB *hdb)
{
    if (hdb && hdb->dbgfd != KESTO_LOST) {
        hdb->dbgfd = KESTO_LOST;
        __atomic_fetch_add(&kesto_lost_count, 1, __ATOMIC_RELAXED);
    }
}

/* The file of an index, or of the table; NULL: it is no more. */
static inline TCHDB *kesto_file_of(const TCTDB *tdb, int index)
{
    if (index < 0)
        return tdb->hdb;
    const TCBDB *bdb = tdb->idxs[index].db;
    return bdb ? bdb->hdb : NULL;
}

/* Indexes that can be gone through. While the list of them grows it may be none. */
static inline int kesto_index_count(const TCTDB *tdb)
{
#ifndef PYKESTO_TC_ARCHIVE
    if (!tdb->open)
        return 0; /* which of them were closed already is not known */
#endif
    return tdb->idxs ? tdb->inum : 0;
}

static bool kesto_is_lost(const TCTDB *tdb)
{
    if (__atomic_load_n(&kesto_lost_count, __ATOMIC_RELAXED) > 0)
        for (int i = -1; i < kesto_index_count(tdb); i++) {
            const TCHDB *hdb = kesto_file_of(tdb, i);
            if (hdb && hdb->dbgfd == KESTO_LOST)
                return true;
        }
    return false;
}

static void kesto_forsake_file(TCHDB *hdb)
{
    if (hdb->dbgfd == KESTO_LOST)
        __atomic_fetch_sub(&kesto_lost_count, 1, __ATOMIC_RELAXED);
    if (hdb->fd >= 0) {
        if (hdb->map && !kesto_unmapped)
            munmap(hdb->map, hdb->xmsiz);
        if (hdb->walfd >= 0)
            close(hdb->walfd);
        close(hdb->fd);
    }
    if (hdb->rpath)
        tcpathunlock(hdb->rpath);
    hdb->fd = hdb->walfd = hdb->dbgfd = -1;
    hdb->map = NULL;
    hdb->rpath = NULL;
}

/* Let go of the files of a lost table, as the end of the process would. What it has in memory stays there: what of it is
 * sound can't be known. */
static void kesto_forsake(TCTDB *tdb)
{
    for (int i = -1; i < kesto_index_count(tdb); i++)
        if (kesto_file_of(tdb, i))
            kesto_forsake_file(kesto_file_of(tdb, i));
    while (kesto_opened.count > 0) /* in the call that was left, and not the table's yet */
        close(kesto_opened.numbers[kesto_opened.count - 1]);
#ifdef PYKESTO_TC_ARCHIVE
    kesto_unlock_path(NULL);
#endif
}

/* --- Calls -------------------------------------------------------------------------------------------------------- */

/* Define kesto_NAME. `tracking`: but for what it writes, it changes nothing that lasts. `file`: of the table that is lost
 * otherwise. */
#define KESTO_CALL(result, failure, name, tracking, file, parameters, arguments) \
    KESTO_CALL_OF(NULL, result, failure, name, tracking, file, parameters, arguments)
#define KESTO_CALL_OF(table, result, failure, name, tracking, file, parameters, arguments) \
    static result kesto_##name parameters \
    { \
        jmp_buf exit; \
        if (setjmp(exit)) { \
            if (!kesto_left()) \
                kesto_lose(file); \
            return failure; \
        } \
        kesto_enter(&exit, table, tracking); \
        result made = name arguments; \
        kesto_return(); \
        return made; \
    }

/* Of no file. Small rows are not tracked, since that takes longer than to make them; what is held back is enough. */
enum { KESTO_ROW_TRACKED = 1 << 16 };
KESTO_CALL(TCMAP *, NULL, tcmapload, size > KESTO_ROW_TRACKED, NULL, (const void *row, int size), (row, size))
KESTO_CALL(TCXSTR *, NULL, tcxstrnew, true, NULL, (void), ())
KESTO_CALL(TCTDB *, NULL, tctdbnew, true, NULL, (void), ())
KESTO_CALL(BDBCUR *, NULL, tcbdbcurnew, true, NULL, (TCBDB * bdb), (bdb))
KESTO_CALL(char *, NULL, tcbsdecode, true, NULL, (const char *data, int size, int *made_size), (data, size, made_size))
KESTO_CALL(char *, NULL, tcstrutfnorm, true, NULL, (char *text, int options), (text, options))

/* Reading of records. */
KESTO_CALL(void *, NULL, tchdbget, true, hdb, (TCHDB * hdb, const void *key, int key_size, int *size),
           (hdb, key, key_size, size))
KESTO_CALL(int, -1, tchdbvsiz, true, hdb, (TCHDB * hdb, const void *key, int size), (hdb, key, size))
KESTO_CALL(bool, false, tchdbiterinit2, true, hdb, (TCHDB * hdb, const void *key, int size), (hdb, key, size))
KESTO_CALL(char *, NULL, tctdbget4, true, tdb->hdb,
           (TCTDB * tdb, const void *key, int key_size, const void *name, int name_size, int *size),
           (tdb, key, key_size, name, name_size, size))
KESTO_CALL(int, -1, tctdbvsiz, true, tdb->hdb, (TCTDB * tdb, const void *key, int size), (tdb, key, size))
KESTO_CALL(TCLIST *, NULL, tctdbfwmkeys, true, tdb->hdb, (TCTDB * tdb, const void *prefix, int size, int max),
           (tdb, prefix, size, max))

/* Reading of indexes. */
KESTO_CALL(bool, false, tcbdbcurfirst, true, cursor->bdb->hdb, (BDBCUR * cursor), (cursor))
KESTO_CALL(bool, false, tcbdbcurlast, true, cursor->bdb->hdb, (BDBCUR * cursor), (cursor))
KESTO_CALL(bool, false, tcbdbcurnext, true, cursor->bdb->hdb, (BDBCUR * cursor), (cursor))
KESTO_CALL(bool, false, tcbdbcurprev, true, cursor->bdb->hdb, (BDBCUR * cursor), (cursor))
KESTO_CALL(bool, false, tcbdbcurjump, true, cursor->bdb->hdb, (BDBCUR * cursor, const void *key, int size),
           (cursor, key, size))
KESTO_CALL(bool, false, tcbdbcurjumpback, true, cursor->bdb->hdb, (BDBCUR * cursor, const void *key, int size),
           (cursor, key, size))
KESTO_CALL(const void *, NULL, tcbdbcurkey3, true, cursor->bdb->hdb, (BDBCUR * cursor, int *size), (cursor, size))
KESTO_CALL(const void *, NULL, tcbdbcurval3, true, cursor->bdb->hdb, (BDBCUR * cursor, int *size), (cursor, size))

/* Changes. */
KESTO_CALL(bool, false, tchdbput, false, hdb,
           (TCHDB * hdb, const void *key, int key_size, const void *value, int value_size),
           (hdb, key, key_size, value, value_size))
KESTO_CALL(bool, false, tcbdbput, false, bdb->hdb,
           (TCBDB * bdb, const void *key, int key_size, const void *value, int value_size),
           (bdb, key, key_size, value, value_size))
KESTO_CALL(bool, false, tchdbiternext3, false, hdb, (TCHDB * hdb, TCXSTR *key, TCXSTR *value), (hdb, key, value))
#define KESTO_ROW_CALL(name) \
    KESTO_CALL(bool, false, name, false, tdb->hdb, (TCTDB * tdb, const void *key, int size, TCMAP *columns), \
               (tdb, key, size, columns))
KESTO_ROW_CALL(tctdbput)
KESTO_ROW_CALL(tctdbputkeep)
KESTO_ROW_CALL(tctdbputcat)
KESTO_CALL(bool, false, tctdbout, false, tdb->hdb, (TCTDB * tdb, const void *key, int size), (tdb, key, size))

/* Files. */
#define KESTO_TABLE_CALL(name) KESTO_CALL_OF(tdb, bool, false, name, false, tdb->hdb, (TCTDB * tdb), (tdb))
KESTO_TABLE_CALL(tctdbclose)
KESTO_TABLE_CALL(tctdbsync)
KESTO_TABLE_CALL(tctdbvanish)
KESTO_TABLE_CALL(tctdbtranbegin)
KESTO_TABLE_CALL(tctdbtrancommit)
KESTO_TABLE_CALL(tctdbtranabort)
KESTO_TABLE_CALL(tctdbcacheclear)
KESTO_CALL_OF(tdb, bool, false, tctdbopen, false, tdb->hdb, (TCTDB * tdb, const char *path, int mode), (tdb, path, mode))
KESTO_CALL_OF(tdb, bool, false, tctdbmemsync, false, tdb->hdb, (TCTDB * tdb, bool physical), (tdb, physical))
KESTO_CALL_OF(tdb, bool, false, tctdbdefrag, false, tdb->hdb, (TCTDB * tdb, int64_t steps), (tdb, steps))
KESTO_CALL_OF(tdb, bool, false, tctdbsetindex, false, tdb->hdb, (TCTDB * tdb, const char *name, int type),
              (tdb, name, type))

/* --- Queries ------------------------------------------------------------------------------------------------------ */

typedef struct {
    const char *name;
    int operation;
    const char *operand;
} kesto_condition;

static TDBQRY *make_query(TCTDB *tdb, const kesto_condition *conditions, int count, const char *order, int type,
                               int limit, int skip)
{
    TDBQRY *query = tctdbqrynew(tdb);
    for (int i = 0; i < count; i++)
        tctdbqryaddcond(query, conditions[i].name, conditions[i].operation, conditions[i].operand);
    if (order)
        tctdbqrysetorder(query, order, type);
    tctdbqrysetlimit(query, limit, skip);
    if (kesto_io.error == ENOMEM) /* of a regular expression */
        kesto_leave();
    return query;
}
KESTO_CALL(TDBQRY *, NULL, make_query, true, NULL,
           (TCTDB * tdb, const kesto_condition *conditions, int count, const char *order, int type, int limit, int skip),
           (tdb, conditions, count, order, type, limit, skip))

KESTO_CALL(TCLIST *, NULL, tctdbqrykwic, true, NULL,
           (TDBQRY * query, TCMAP *columns, const char *name, int width, int options),
           (query, columns, name, width, options))

/* Whether a search will write what an index of words has gathered, and so change it outside of files. */
static bool kesto_will_write(const TDBQRY *query)
{
    for (int i = 0; query->tdb->wmode && i < query->tdb->inum; i++) {
        const TDBIDX *index = &query->tdb->idxs[i];
        if ((index->type == TDBITTOKEN || index->type == TDBITQGRAM) && tcmaprnum(index->cc) > 0)
            for (int j = 0; j < query->cnum; j++)
                if (strcmp(query->conds[j].name, index->name) == 0)
                    return true;
    }
    return false;
}

static TCLIST *kesto_search(TDBQRY *query)
{
    jmp_buf exit;
    bool tracking = !kesto_will_write(query);
    if (setjmp(exit)) {
#ifdef PYKESTO_TC_ARCHIVE
        size_t slot;
        if (tracking && query->hint->ptr && kesto_holds(&kesto_call.blocks, query->hint->ptr, &slot))
            query->hint->ptr = NULL; /* it is about to be freed */
#endif
        if (!kesto_left())
            kesto_lose(query->tdb->hdb);
        return NULL;
    }
    kesto_enter(&exit, NULL, tracking);
    TCLIST *found = tctdbqrysearch(query);
    kesto_return();
    return found;
}

/* The keys of the entries of a value, at most so many. An entry is the value, a NUL, two bytes of a hash. */
static TCLIST *equal_keys(TCBDB *bdb, const char *value, int size, int64_t most)
{
    TCLIST *found = tclistnew();
    BDBCUR *cursor = tcbdbcurnew(bdb);
    bool more = tcbdbcurjump(cursor, value, size + 1);
    while (more && tclistnum(found) < most) {
        int entry_size, key_size;
        const char *entry = tcbdbcurkey3(cursor, &entry_size);
        if (!entry || entry_size <= size || memcmp(entry, value, (size_t)size + 1) != 0)
            break;
        if (entry_size == size + 3) {
            const char *key = tcbdbcurval3(cursor, &key_size);
            if (!key)
                break;
            tclistpush(found, key, key_size);
        }
        more = tcbdbcurnext(cursor);
    }
    tcbdbcurdel(cursor);
    return found;
}
KESTO_CALL(TCLIST *, NULL, equal_keys, true, bdb->hdb, (TCBDB * bdb, const char *value, int size, int64_t most),
           (bdb, value, size, most))

/* Whether entries of other values lie among those of this one: those that go on with a NUL, which every entry holds
 * behind its value. */
static bool is_tangled(TCBDB *bdb, const char *value, int size)
{
    BDBCUR *cursor = tcbdbcurnew(bdb);
    bool found = false;
    for (bool more = tcbdbcurjump(cursor, value, size + 1); more && !found; more = tcbdbcurnext(cursor)) {
        int entry_size;
        const char *entry = tcbdbcurkey3(cursor, &entry_size);
        if (!entry || entry_size <= size || memcmp(entry, value, (size_t)size + 1) != 0)
            break;
        found = entry_size != size + 3;
    }
    tcbdbcurdel(cursor);
    return found;
}
KESTO_CALL(bool, false, is_tangled, true, bdb->hdb, (TCBDB * bdb, const char *value, int size), (bdb, value, size))
#endif
