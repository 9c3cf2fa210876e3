/* What Tokyo Cabinet does in C: the loops of benchmarks/driver.py without Python. It is built and run from there.
 *
 *     driver DIRECTORY small|wide ROWS QUERIES
 *
 * writes a table, reads it, and prints for each work a line: its name, the seconds, and the answer, which must be that of
 * every other peer. Rows are made before the clock starts; a row is a map to put, and a map again when it was got.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tctdb.h>
#include <time.h>

#ifdef NO_YIELD
/* The library gives up the processor now and then, a debugging aid; our driver turns it off (setup.py says why). */
int __wrap_sched_yield(void) { return 0; }
#endif

enum { COLUMNS_MAX = 10, STEP = 7919, GROUPS = 10, RANGE = 50, LIMIT = 10 };

typedef struct {
    int size;
    const char *data;
} text;

typedef struct {
    text key;
    text values[COLUMNS_MAX];
} row;

static text names[COLUMNS_MAX];
static int columns;
static row *rows;
static int64_t count;

static text format(const char *pattern, int64_t number)
{
    char buffer[128];
    text made = {snprintf(buffer, sizeof buffer, pattern, (long long)number), strdup(buffer)};
    return made;
}

static void make_rows(const char *shape)
{
    bool wide = strcmp(shape, "wide") == 0;
    columns = wide ? 10 : 3;
    for (int i = 0; i < columns; i++)
        names[i] = wide ? format("column%lld", i) : (text){4, (const char *[]){"name", "kind", "size"}[i]};
    rows = malloc(sizeof(row) * (size_t)count);
    for (int64_t i = 0; i < count; i++) {
        rows[i].key = format("%08lld", i);
        for (int j = 0; wide && j < columns; j++)
            rows[i].values[j] = format("%0100lld", i * columns + j);
        if (!wide) {
            rows[i].values[0] = format("name %lld", i);
            rows[i].values[1] = format("kind %lld", i / GROUPS);
            rows[i].values[2] = format("%lld", i);
        }
    }
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void tell(const char *work, double began, int64_t answer)
{
    printf("%s %.9f %lld\n", work, now() - began, (long long)answer);
}

static void require(bool done, const char *what)
{
    if (!done) {
        fprintf(stderr, "driver: %s failed\n", what);
        exit(1);
    }
}

static TCTDB *open_table(const char *path, int mode)
{
    TCTDB *table = tctdbnew();
    tctdbtune(table, count * 2, -1, -1, TDBTLARGE);
    require(tctdbopen(table, path, mode), "open");
    return table;
}

static void close_table(TCTDB *table)
{
    require(tctdbclose(table), "close");
    tctdbdel(table);
}

static void put_all(TCTDB *table)
{
    for (int64_t i = 0; i < count; i++) {
        const row *one = &rows[i];
        TCMAP *map = tcmapnew2((uint32_t)(columns * 2 + 1));
        for (int j = 0; j < columns; j++)
            tcmapput(map, names[j].data, names[j].size, one->values[j].data, one->values[j].size);
        require(tctdbput(table, one->key.data, one->key.size, map), "put");
        tcmapdel(map);
    }
}

static void time_put(const char *work, const char *path, bool indexed)
{
    TCTDB *table = open_table(path, TDBOWRITER | TDBOCREAT | TDBOTRUNC);
    if (indexed)
        require(tctdbsetindex(table, "kind", TDBITLEXICAL) && tctdbsetindex(table, "size", TDBITDECIMAL), "setindex");
    double began = now();
    put_all(table);
    close_table(table);
    tell(work, began, count);
}

static int64_t size_of_first(const TCMAP *map)
{
    int size = 0;
    tcmapget(map, names[0].data, names[0].size, &size);
    return size;
}

static int64_t get_all(TCTDB *table)
{
    int64_t found = 0;
    for (int64_t i = 0; i < count; i++) {
        text key = rows[i * STEP % count].key;
        TCMAP *map = tctdbget(table, key.data, key.size);
        require(map != NULL, "get");
        found += size_of_first(map);
        tcmapdel(map);
    }
    return found;
}

static int64_t iterate(TCTDB *table)
{
    int64_t found = 0;
    require(tctdbiterinit(table), "iterinit");
    for (TCMAP *map; (map = tctdbiternext3(table)) != NULL; tcmapdel(map)) {
        int key_size;
        tcmapget(map, "", 0, &key_size); /* the library gives the key as a column without a name */
        found += size_of_first(map) + key_size;
    }
    return found;
}

/* The rows that a query finds, each got as a map. */
static int64_t search(TCTDB *table, TDBQRY *query)
{
    TCLIST *keys = tctdbqrysearch(query);
    int64_t found = 0;
    for (int i = 0; i < tclistnum(keys); i++) {
        int size;
        const char *key = tclistval(keys, i, &size);
        TCMAP *map = tctdbget(table, key, size);
        require(map != NULL, "get");
        found += size_of_first(map);
        tcmapdel(map);
    }
    tclistdel(keys);
    tctdbqrydel(query);
    return found;
}

static int64_t equality(TCTDB *table, int64_t i)
{
    char operand[64];
    snprintf(operand, sizeof operand, "kind %lld", (long long)(i * STEP % (count / GROUPS)));
    TDBQRY *query = tctdbqrynew(table);
    tctdbqryaddcond(query, "kind", TDBQCSTREQ, operand);
    return search(table, query);
}

static int64_t in_order(TCTDB *table, int64_t i, int width, int limit)
{
    char operand[64];
    long long low = i * STEP % (count - width);
    snprintf(operand, sizeof operand, "%lld %lld", low, low + width - 1);
    TDBQRY *query = tctdbqrynew(table);
    tctdbqryaddcond(query, "size", TDBQCNUMBT, operand);
    tctdbqrysetorder(query, "size", TDBQONUMASC);
    tctdbqrysetlimit(query, limit, 0);
    return search(table, query);
}

static int64_t range(TCTDB *table, int64_t i) { return in_order(table, i, RANGE, -1); }

static int64_t limit(TCTDB *table, int64_t i) { return in_order(table, i, LIMIT * RANGE, LIMIT); }

static void time_queries(const char *work, TCTDB *table, int64_t queries, int64_t (*ask)(TCTDB *, int64_t))
{
    int64_t found = 0;
    double began = now();
    for (int64_t i = 0; i < queries; i++)
        found += ask(table, i);
    tell(work, began, found);
}

int main(int argc, char **argv)
{
    require(argc == 5, "driver DIRECTORY small|wide ROWS QUERIES");
    char path[4096];
    snprintf(path, sizeof path, "%s/table.tct", argv[1]);
    count = atoll(argv[3]);
    int64_t queries = atoll(argv[4]);
    make_rows(argv[2]);

    time_put("put", path, false);
    TCTDB *table = open_table(path, TDBOREADER);
    double began = now();
    tell("get", began, get_all(table));
    began = now();
    tell("iterate", began, iterate(table));
    close_table(table);
    if (strcmp(argv[2], "small") != 0)
        return 0;

    time_put("put_indexed", path, true);
    table = open_table(path, TDBOREADER);
    time_queries("equality", table, queries, equality);
    time_queries("range", table, queries, range);
    time_queries("limit", table, queries, limit);
    close_table(table);
    return 0;
}
