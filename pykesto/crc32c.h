/* CRC-32C (Castagnoli, reflected polynomial 0x82F63B78; RFC 3720 appendix B.4).
 *
 * The CPU's instructions where there are any (SSE 4.2, PCLMULQDQ), else a table of eight slices
 * (Kounavis and Berry, "Novel table lookup-based algorithms", 2008). Both give the same sums. How three sums go on at
 * once and are put together: Gopal et al., "Fast CRC Computation for iSCSI Polynomial Using CRC32 Instruction", 2011.
 */
#ifndef PYKESTO_CRC32C_H
#define PYKESTO_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static uint32_t kesto_crc_table[8][256];
static int kesto_crc_ready = 0;

static void kesto_crc_init(void)
{
    if (kesto_crc_ready)
        return;
    for (int i = 0; i < 256; i++) {
        uint32_t c = (uint32_t)i;
        for (int bit = 0; bit < 8; bit++)
            c = c & 1 ? (c >> 1) ^ 0x82F63B78u : c >> 1;
        kesto_crc_table[0][i] = c;
    }
    for (int i = 0; i < 256; i++)
        for (int slice = 1; slice < 8; slice++) {
            uint32_t c = kesto_crc_table[slice - 1][i];
            kesto_crc_table[slice][i] = (c >> 8) ^ kesto_crc_table[0][c & 0xff];
        }
    kesto_crc_ready = 1;
}

static uint32_t kesto_crc_software(uint32_t crc, const unsigned char *p, size_t size)
{
    kesto_crc_init();
    while (size >= 8) {
        uint32_t low, high;
        memcpy(&low, p, 4);
        memcpy(&high, p + 4, 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        low = __builtin_bswap32(low);
        high = __builtin_bswap32(high);
#endif
        low ^= crc;
        crc = kesto_crc_table[7][low & 0xff] ^ kesto_crc_table[6][(low >> 8) & 0xff]
            ^ kesto_crc_table[5][(low >> 16) & 0xff] ^ kesto_crc_table[4][low >> 24]
            ^ kesto_crc_table[3][high & 0xff] ^ kesto_crc_table[2][(high >> 8) & 0xff]
            ^ kesto_crc_table[1][(high >> 16) & 0xff] ^ kesto_crc_table[0][high >> 24];
        p += 8;
        size -= 8;
    }
    while (size--)
        crc = (crc >> 8) ^ kesto_crc_table[0][(crc ^ *p++) & 0xff];
    return crc;
}

#if defined(__x86_64__) && defined(__GNUC__)
#define KESTO_CRC_INSTRUCTION __attribute__((target("sse4.2,pclmul")))
typedef long long kesto_pair __attribute__((vector_size(16)));

/* The sum as it is after so many bytes more, all zero: a product by x^(8 bytes - 33), which `factor` is, modulo the polynomial. */
KESTO_CRC_INSTRUCTION
static inline uint64_t kesto_crc_moved(uint64_t crc, uint32_t factor)
{
    kesto_pair sum = {(long long)crc, 0}, by = {(long long)factor, 0};
    return __builtin_ia32_crc32di(0, (uint64_t)__builtin_ia32_pclmulqdq128(sum, by, 0)[0]);
}

/* Three lanes at a time, as the instruction gives its result three cycles late; then their sums are put together. */
KESTO_CRC_INSTRUCTION
static inline const unsigned char *kesto_crc_lanes(
    uint64_t *crc, const unsigned char *p, size_t size, size_t lane, uint32_t one, uint32_t two)
{
    for (; size >= 3 * lane; size -= 3 * lane, p += 3 * lane) {
        uint64_t first = *crc, second = 0, third = 0, word;
        for (size_t i = 0; i < lane; i += 8) {
            memcpy(&word, p + i, 8);
            first = __builtin_ia32_crc32di(first, word);
            memcpy(&word, p + lane + i, 8);
            second = __builtin_ia32_crc32di(second, word);
            memcpy(&word, p + 2 * lane + i, 8);
            third = __builtin_ia32_crc32di(third, word);
        }
        *crc = kesto_crc_moved(first, two) ^ kesto_crc_moved(second, one) ^ third;
    }
    return p;
}

KESTO_CRC_INSTRUCTION
static uint32_t kesto_crc_hardware(uint32_t crc, const unsigned char *p, size_t size)
{
    const unsigned char *end = p + size;
    uint64_t c = crc;
    p = kesto_crc_lanes(&c, p, size, 256, 0xb9e02b86u, 0xdd7e3b0cu);
    p = kesto_crc_lanes(&c, p, (size_t)(end - p), 64, 0x9e4addf8u, 0x0d3b6092u);
    while (end - p >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        c = __builtin_ia32_crc32di(c, word);
        p += 8;
    }
    while (p < end)
        c = __builtin_ia32_crc32qi((uint32_t)c, *p++);
    return (uint32_t)c;
}
#endif

static uint32_t kesto_crc32c(uint32_t seed, const void *data, size_t size)
{
    uint32_t crc = ~seed;
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul"))
        return ~kesto_crc_hardware(crc, data, size);
#endif
    return ~kesto_crc_software(crc, data, size);
}

#endif
