"""What the driver uses of Tokyo Cabinet 1.4.48, and of the C library around it."""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp


cdef extern from "tcutil.h" nogil:
    ctypedef bint c_bool "bool"
    ctypedef struct TCMAP
    ctypedef struct TCLIST
    ctypedef struct TCXSTR
    enum:
        TCESUCCESS, TCETHREAD, TCEINVALID, TCENOFILE, TCENOPERM, TCEOPEN, TCEMETA, TCELOCK, TCENOREC, TCEMISC
        TCEKEEP
        TCDBTBTREE, TCDBTTABLE
        TCUNSPACE, TCUNLOWER, TCUNNOACC, TCUNWIDTH
        TCKWMUTAB, TCKWMUCTRL, TCKWMUBRCT, TCKWNOOVER, TCKWPULEAD
    const char *tcversion
    ctypedef void *(*TCCODEC)(const void *data, int size, int *result_size, void *opaque) noexcept nogil
    int tccmplexical(const char *a, int a_size, const char *b, int b_size, void *opaque)
    int tccmpdecimal(const char *a, int a_size, const char *b, int b_size, void *opaque)
    char *tcbsdecode "kesto_tcbsdecode"(const char *data, int size, int *result_size)
    char *tcstrutfnorm "kesto_tcstrutfnorm"(char *text, int options)
    void tcfree(void *block)
    c_bool tcpathunlock(const char *path)
    TCMAP *tcmapnew2(unsigned int buckets)
    void tcmapdel(TCMAP *map)
    void tcmapput(TCMAP *map, const void *name, int name_size, const void *value, int value_size)
    void tcmapiterinit(TCMAP *map)
    const void *tcmapiternext(TCMAP *map, int *size)
    const void *tcmapiterval(const void *name, int *size)
    const void *tcmapget(const TCMAP *map, const void *name, int name_size, int *size)
    uint64_t tcmaprnum(const TCMAP *map)
    TCMAP *tcmapload "kesto_tcmapload"(const void *block, int size)
    int tclistnum(const TCLIST *list)
    const void *tclistval(const TCLIST *list, int index, int *size)
    void tclistdel(TCLIST *list)
    TCXSTR *tcxstrnew "kesto_tcxstrnew"()
    void tcxstrdel(TCXSTR *string)
    const void *tcxstrptr(const TCXSTR *string)
    int tcxstrsize(const TCXSTR *string)


cdef extern from "tchdb.h" nogil:
    ctypedef struct TCHDB:
        char *rpath
        char *path
        int fd
        int walfd
        uint64_t fsiz
        uint64_t frec
        uint64_t iter
        uint64_t msiz
        uint64_t xmsiz
        char *map
        int ecode
        c_bool fatal
        c_bool tran
        c_bool zmode
    void *tchdbget "kesto_tchdbget"(TCHDB *hdb, const void *key, int key_size, int *size)
    c_bool tchdbput "kesto_tchdbput"(TCHDB *hdb, const void *key, int key_size, const void *value, int value_size)
    int tchdbvsiz "kesto_tchdbvsiz"(TCHDB *hdb, const void *key, int key_size)
    c_bool tchdbiterinit2 "kesto_tchdbiterinit2"(TCHDB *hdb, const void *key, int key_size)
    void *tchdbiternext(TCHDB *hdb, int *size)
    c_bool tchdbiternext3 "kesto_tchdbiternext3"(TCHDB *hdb, TCXSTR *key, TCXSTR *value)
    int tchdbecode(TCHDB *hdb)


cdef extern from "tcbdb.h" nogil:
    ctypedef struct TCBDB:
        TCHDB *hdb
        uint8_t opts
        uint64_t root
        uint64_t first
        uint64_t last
        uint64_t rnum
    enum:
        BDBTLARGE
    ctypedef struct BDBCUR
    BDBCUR *tcbdbcurnew "kesto_tcbdbcurnew"(TCBDB *bdb)
    void tcbdbcurdel(BDBCUR *cursor)
    c_bool tcbdbcurfirst "kesto_tcbdbcurfirst"(BDBCUR *cursor)
    c_bool tcbdbcurlast "kesto_tcbdbcurlast"(BDBCUR *cursor)
    c_bool tcbdbcurjump "kesto_tcbdbcurjump"(BDBCUR *cursor, const void *key, int size)
    c_bool tcbdbcurjumpback "kesto_tcbdbcurjumpback"(BDBCUR *cursor, const void *key, int size)
    c_bool tcbdbcurprev "kesto_tcbdbcurprev"(BDBCUR *cursor)
    c_bool tcbdbcurnext "kesto_tcbdbcurnext"(BDBCUR *cursor)
    const void *tcbdbcurkey3 "kesto_tcbdbcurkey3"(BDBCUR *cursor, int *size)
    const void *tcbdbcurval3 "kesto_tcbdbcurval3"(BDBCUR *cursor, int *size)
    int tcbdbecode(TCBDB *bdb)
    c_bool tcbdbput "kesto_tcbdbput"(TCBDB *bdb, const void *key, int key_size, const void *value, int value_size)


cdef extern from "tctdb.h" nogil:
    ctypedef struct TDBIDX:
        char *name
        int type
        void *db
    ctypedef struct TCTDB:
        TCHDB *hdb
        c_bool open
        c_bool wmode
        c_bool tran
        int64_t iccmax
        double iccsync
        TDBIDX *idxs
        int inum
    ctypedef struct TDBQRY
    enum:
        TDBFOPEN, TDBFFATAL
        TDBTLARGE, TDBTDEFLATE, TDBTBZIP, TDBTTCBS, TDBTEXCODEC
        TDBOREADER, TDBOWRITER, TDBOCREAT, TDBOTRUNC, TDBONOLCK, TDBOLCKNB, TDBOTSYNC
        TDBITLEXICAL, TDBITDECIMAL, TDBITTOKEN, TDBITQGRAM, TDBITOPT, TDBITVOID
        TDBQCSTREQ, TDBQCSTRINC, TDBQCSTRBW, TDBQCSTREW, TDBQCSTRAND, TDBQCSTROR, TDBQCSTROREQ, TDBQCSTRRX
        TDBQCNUMEQ, TDBQCNUMGT, TDBQCNUMGE, TDBQCNUMLT, TDBQCNUMLE, TDBQCNUMBT, TDBQCNUMOREQ
        TDBQCFTSPH, TDBQCFTSAND, TDBQCFTSOR, TDBQCFTSEX
        TDBQCNEGATE, TDBQCNOIDX
        TDBQOSTRASC, TDBQOSTRDESC, TDBQONUMASC, TDBQONUMDESC
    const char *tctdberrmsg(int code)
    TCTDB *tctdbnew "kesto_tctdbnew"()
    void tctdbdel(TCTDB *tdb)
    int tctdbecode(TCTDB *tdb)
    c_bool tctdbtune(TCTDB *tdb, int64_t bnum, int8_t apow, int8_t fpow, uint8_t options)
    c_bool tctdbsetcache(TCTDB *tdb, int32_t records, int32_t leaves, int32_t nodes)
    c_bool tctdbsetxmsiz(TCTDB *tdb, int64_t size)
    c_bool tctdbsetdfunit(TCTDB *tdb, int32_t steps)
    c_bool tctdbsetinvcache(TCTDB *tdb, int64_t bytes, double ratio)
    c_bool tctdbsetcodecfunc(TCTDB *tdb, TCCODEC encode, void *encode_opaque, TCCODEC decode, void *decode_opaque)
    c_bool tctdbopen "kesto_tctdbopen"(TCTDB *tdb, const char *path, int mode)
    c_bool tctdbclose "kesto_tctdbclose"(TCTDB *tdb)
    c_bool tctdbput "kesto_tctdbput"(TCTDB *tdb, const void *key, int key_size, TCMAP *columns)
    c_bool tctdbputkeep "kesto_tctdbputkeep"(TCTDB *tdb, const void *key, int key_size, TCMAP *columns)
    c_bool tctdbputcat "kesto_tctdbputcat"(TCTDB *tdb, const void *key, int key_size, TCMAP *columns)
    c_bool tctdbout "kesto_tctdbout"(TCTDB *tdb, const void *key, int key_size)
    char *tctdbget4 "kesto_tctdbget4"(
        TCTDB *tdb, const void *key, int key_size, const void *name, int name_size, int *size
    )
    int tctdbvsiz "kesto_tctdbvsiz"(TCTDB *tdb, const void *key, int key_size)
    TCLIST *tctdbfwmkeys "kesto_tctdbfwmkeys"(TCTDB *tdb, const void *prefix, int size, int limit)
    c_bool tctdbsync "kesto_tctdbsync"(TCTDB *tdb)
    c_bool tctdbmemsync "kesto_tctdbmemsync"(TCTDB *tdb, c_bool physical)
    c_bool tctdboptimize(TCTDB *tdb, int64_t bnum, int8_t apow, int8_t fpow, uint8_t options)
    c_bool tctdbvanish "kesto_tctdbvanish"(TCTDB *tdb)
    c_bool tctdbtranbegin "kesto_tctdbtranbegin"(TCTDB *tdb)
    c_bool tctdbtrancommit "kesto_tctdbtrancommit"(TCTDB *tdb)
    c_bool tctdbtranabort "kesto_tctdbtranabort"(TCTDB *tdb)
    uint64_t tctdbrnum(TCTDB *tdb)
    uint64_t tctdbfsiz(TCTDB *tdb)
    uint64_t tctdbbnum(TCTDB *tdb)
    uint64_t tctdbbnumused(TCTDB *tdb)
    uint32_t tctdbalign(TCTDB *tdb)
    uint32_t tctdbfbpmax(TCTDB *tdb)
    uint64_t tctdbinode(TCTDB *tdb)
    int64_t tctdbmtime(TCTDB *tdb)
    uint8_t tctdbflags(TCTDB *tdb)
    uint8_t tctdbopts(TCTDB *tdb)
    char *tctdbopaque(TCTDB *tdb)
    uint32_t tctdbdfunit(TCTDB *tdb)
    int64_t tctdbgenuid(TCTDB *tdb)
    int64_t tctdbuidseed(TCTDB *tdb)
    c_bool tctdbsetuidseed(TCTDB *tdb, int64_t seed)
    c_bool tctdbdefrag "kesto_tctdbdefrag"(TCTDB *tdb, int64_t steps)
    c_bool tctdbcacheclear "kesto_tctdbcacheclear"(TCTDB *tdb)
    c_bool tctdbsetindex "kesto_tctdbsetindex"(TCTDB *tdb, const char *name, int type)
    void tctdbqrydel(TDBQRY *query)
    const char *tctdbqryhint(TDBQRY *query)
    TCLIST *tctdbqrykwic "kesto_tctdbqrykwic"(TDBQRY *query, TCMAP *columns, const char *name, int width, int options)


cdef extern from "pykesto/_tc_io.h" nogil:
    ctypedef struct Failure "kesto_failure":
        int error  # 0: none
        int code
        const char *call
    Failure io_failure "kesto_io"  # the thread's, since io_begin
    int io_errno "kesto_io_errno"()


cdef extern from "pykesto/_tc_memory.h" nogil:
    ctypedef struct CallState "kesto_call_state":
        pass
    void catch_fatal "kesto_catch_fatal"()
    bint has_room "kesto_has_room"(int64_t size)
    bint io_ready "kesto_io_ready"()
    void suspend "kesto_suspend"(CallState *outer)
    void resume "kesto_resume"(const CallState *outer)


cdef extern from "pykesto/_tc_blocks.h" nogil:
    ctypedef struct Block "kesto_block":
        uint64_t offset
        const char *key
        const char *value
        int key_size
        int value_size
        void *copy
    ctypedef struct Damage "kesto_damage":
        c_bool found
        uint64_t offset
        char *path
    enum:
        FOUND "KESTO_FOUND"
        ABSENT "KESTO_ABSENT"
        DAMAGED "KESTO_DAMAGED"
    Damage damage "kesto_damaged"  # the thread's, since io_begin
    ctypedef struct Wanted "kesto_wanted":
        const char *key
        int key_size
        uint64_t offset  # 0: it is for find_record
    enum:
        AT_ONCE "KESTO_AT_ONCE"
    void find_many "kesto_find_many"(TCHDB *hdb, Wanted *wanted, int count)
    c_bool get_block "kesto_get_block"(TCHDB *hdb, uint64_t offset, Block *block)
    int find_record "kesto_find"(TCHDB *hdb, const char *key, int key_size, Block *block)
    c_bool next_record "kesto_next_record"(TCHDB *hdb, uint64_t *offset, Block *block)
    c_bool is_forest "kesto_is_forest"(TCHDB *hdb)
    c_bool note_damage "kesto_note_damage"(TCHDB *hdb, uint64_t offset)
    void let_go "kesto_let_go"(Block *block)
    int64_t varint "kesto_varint"(const unsigned char **at, const unsigned char *end)


cdef extern from "pykesto/_tc_guard.h" nogil:
    void io_begin "kesto_begin"()


cdef extern from "pykesto/_tc_calls.h" nogil:
    ctypedef struct Condition "kesto_condition":
        const char *name
        int operation
        const char *operand
    c_bool is_lost "kesto_is_lost"(const TCTDB *tdb)
    void forsake "kesto_forsake"(TCTDB *tdb)
    TDBQRY *new_query "kesto_make_query"(
        TCTDB *tdb, const Condition *conditions, int count, const char *order, int kind, int limit, int skip
    )
    TCLIST *search_for "kesto_search"(TDBQRY *query)
    TCLIST *equal_keys "kesto_equal_keys"(TCBDB *bdb, const char *value, int size, int64_t most)
    c_bool is_tangled "kesto_is_tangled"(TCBDB *bdb, const char *value, int size)


cdef extern from "fcntl.h" nogil:
    int posix_fallocate(int fd, int64_t offset, int64_t size)
    ctypedef struct flock_t "struct flock":
        short l_type
        short l_whence
        int64_t l_start
        int64_t l_len
        int l_pid
    enum:
        F_GETLK, F_WRLCK, F_UNLCK
    int c_fcntl "fcntl"(int fd, int command, flock_t *lock)


cdef extern from "unistd.h" nogil:
    int c_close "close"(int fd)
    int c_getpid "getpid"()


cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_rwlock_t:
        pass
    int pthread_rwlock_init(pthread_rwlock_t *lock, const void *attributes)
    int pthread_rwlock_rdlock(pthread_rwlock_t *lock)
    int pthread_rwlock_wrlock(pthread_rwlock_t *lock)
    int pthread_rwlock_unlock(pthread_rwlock_t *lock)
    int pthread_atfork(void (*before)() noexcept, void (*parent)() noexcept, void (*child)() noexcept)


cdef extern from "strings.h" nogil:
    int strncasecmp(const char *a, const char *b, size_t size)


cdef extern from "regex.h" nogil:
    ctypedef struct regex_t:
        pass
    enum:
        REG_EXTENDED, REG_NOSUB, REG_ICASE
    int regcomp(regex_t *compiled, const char *pattern, int flags)
    void regfree(regex_t *compiled)
    size_t regerror(int code, const regex_t *compiled, char *message, size_t size)


cdef struct Change:
    const char *key
    int key_size
    TCMAP *columns
    const char *row  # in the library's own layout, where no index asks for columns; with neither, delete
    int row_size


cdef struct Entry:
    const char *term
    const char *key
    int term_size
    int key_size


cdef inline int bytes_order(const char *a, Py_ssize_t a_size, const char *b, Py_ssize_t b_size) noexcept nogil:
    cdef int order = memcmp(a, b, min(a_size, b_size))
    return order if order else (a_size > b_size) - (a_size < b_size)


cdef class Leaf:
    cdef Entry *entries
    cdef uint16_t *ranks  # of the entries: hashes of the keys, by which those of one term are in order; NULL: there are none
    cdef int count
    cdef uint64_t number
    cdef uint64_t previous
    cdef uint64_t following
    cdef int place_of(self, const char *term, Py_ssize_t size) noexcept


cdef struct Child:
    const char *first  # the term of the least entry that is in it or beyond
    int size
    uint64_t page


cdef class Node:
    cdef void *block
    cdef int count
    cdef uint64_t heir
    cdef Child *children
    cdef int64_t *totals  # one more than there are entries below each child, the heir first; 0: nobody has counted
    cdef int place_of(self, const char *term, Py_ssize_t size) noexcept
    cdef uint64_t page_of(self, int child) noexcept


cdef class IndexPages:
    cdef object table
    cdef bytes name
    cdef bint split
    cdef int tail
    cdef uint64_t root
    cdef uint64_t ends[2]
    cdef int64_t total
    cdef dict leaves
    cdef int leaves_kept
    cdef dict nodes
    cdef TCBDB *_tree(self) except NULL
    cdef object damaged(self)
    cdef void *_page(self, uint64_t number, int *size) except NULL
    cdef bint keeps(self, int64_t passed) noexcept
    cdef Leaf leaf(self, uint64_t number, bint keep=*)
    cdef Leaf _load(self, uint64_t number)
    cdef bint _read_leaf(self, Leaf leaf, int64_t count, const unsigned char *at, int size) noexcept
    cdef bint has_ranks(self) noexcept
    cdef bint _put(
        self, Entry *entry, const char *term, int64_t term_size, const char *key, int64_t key_size
    ) noexcept
    cdef Node _node(self, uint64_t number)
    cdef bint _read_node(self, Node node, const unsigned char *at, int size) except -1
    cdef Leaf first(self)
    cdef Leaf last(self)
    cdef Leaf after(self, Leaf leaf, int64_t passed=*)
    cdef Leaf before(self, Leaf leaf, int64_t passed=*)
    cdef Leaf _nonempty(self, Leaf leaf, bint forward)
    cdef Leaf seek(self, const char *term, Py_ssize_t size, int *place, double *share)
    cdef int _find_page(self, uint64_t number, Block *block) except -1
    cdef int64_t entries_of(self, uint64_t number) except -1
    cdef int64_t total_of(self, Node node, int child, int depth, int64_t *pages_left) except -1
    cdef int64_t count_below(self, uint64_t page, bytes lo, bytes hi, int depth, int64_t *pages_left) except -1
    cdef int64_t count_between(self, bytes lo, bytes hi) except -1
    cdef int64_t estimate_between(self, bytes lo, bytes hi) except -1


cdef class PageWalk:
    cdef IndexPages pages
    cdef bytes stop
    cdef bint down
    cdef int64_t passed
    cdef Leaf leaf
    cdef int place
    cdef const Entry *entry
    cdef int begin(self, IndexPages pages, bytes lo, bytes hi, bint down) except -1
    cdef int _stand_before(self) except -1
    cdef int _look(self) except -1
    cdef int step(self) except -1
    cdef int _count_page(self) except -1


cdef class PageRange:
    cdef IndexPages pages
    cdef Leaf leaf
    cdef int start
    cdef int stop
    cdef Leaf following
    cdef Leaf last
    cdef int last_stop
    cdef int64_t passed
    cdef int begin(self, IndexPages pages, bytes lo, bytes hi) except -1
    cdef bint is_last(self) noexcept
    cdef bint next(self) except -1


# Makes something of a key's row, which lies where it may not be kept.
ctypedef object (*TakeRow)(const char *key, Py_ssize_t key_size, const char *row, Py_ssize_t size, object table)

# Writes a key as it is stored, and returns where that ends.
ctypedef char *(*PutKey)(char *at, const char *key, Py_ssize_t size) noexcept nogil

cdef list rows_in_place(object of_table, list keys, PutKey put_key, int tail, TakeRow take_row)
cdef object row_in_place(object of_table, const char *key, int key_size, TakeRow take_row)

# `Table.apply_raw` of rows that lie somewhere: changes without columns.
cdef int apply_in_place(object of_table, Change *changes, Py_ssize_t count) except -1
