/* Words of a shared page with their memory order, and futexes on them. Loads acquire, stores release. */
#ifndef KESTO_WORDS_H
#define KESTO_WORDS_H
#include <stdint.h>
#include <time.h>
#include <errno.h>
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
static uint64_t kesto_load(uint64_t *w) { return __atomic_load_n(w, __ATOMIC_ACQUIRE); }
static void kesto_store(uint64_t *w, uint64_t v) { __atomic_store_n(w, v, __ATOMIC_RELEASE); }
static uint64_t kesto_add(uint64_t *w, uint64_t v) { return __atomic_add_fetch(w, v, __ATOMIC_SEQ_CST); }
static int kesto_swap(uint64_t *w, uint64_t was, uint64_t v)
{ return __atomic_compare_exchange_n(w, &was, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); }
static void kesto_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

enum { KESTO_ANYONE = -1 };

/* Wait on the low half of a word while it is `expected`, as one of the groups that have a bit in `groups`; where there
 * is no futex, pause. */
static void kesto_wait_among(uint64_t *w, uint32_t expected, int64_t ns, uint32_t groups)
{
    struct timespec t;
#ifdef __linux__
    uint32_t *half = (uint32_t *)w;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    half++;
#endif
    clock_gettime(CLOCK_MONOTONIC, &t);
    ns += t.tv_nsec;
    t.tv_sec += ns / 1000000000;
    t.tv_nsec = ns % 1000000000;
    syscall(SYS_futex, half, FUTEX_WAIT_BITSET, expected, &t, NULL, groups);
#else
    (void)groups;
    t.tv_sec = 0;
    t.tv_nsec = ns > 500000 ? 500000 : ns;
    if ((uint32_t)kesto_load(w) == expected) nanosleep(&t, NULL);
#endif
}
static void kesto_wait(uint64_t *w, uint32_t expected, int64_t ns)
{ kesto_wait_among(w, expected, ns, (uint32_t)KESTO_ANYONE); }

/* Look at a word so often, a hint to the processor between two looks, until it is 0; whether it is. */
static int kesto_spin(uint64_t *w, int rounds)
{
    while (rounds-- > 0) {
        if (__atomic_load_n(w, __ATOMIC_ACQUIRE) == 0) return 1;
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ __volatile__("isb");
#endif
    }
    return 0;
}

/* Wake `count` of those that wait on a word as one of these groups, longest waiting first. */
static void kesto_wake_among(uint64_t *w, int count, uint32_t groups)
{
#ifdef __linux__
    uint32_t *half = (uint32_t *)w;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    half++;
#endif
    syscall(SYS_futex, half, FUTEX_WAKE_BITSET, count, NULL, NULL, groups);
#endif
}
static void kesto_wake_some(uint64_t *w, int count) { kesto_wake_among(w, count, (uint32_t)KESTO_ANYONE); }
static void kesto_wake(uint64_t *w) { kesto_wake_some(w, 0x7fffffff); }
#endif
