/* CRC-32C (Castagnoli, reflected polynomial 0x82F63B78; RFC 3720 appendix B.4).
 *
 * The CPU's instruction where there is one (SSE 4.2), else a table of eight slices
 * (Kounavis and Berry, "Novel table lookup-based algorithms", 2008). Both give the same sums.
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
__attribute__((target("sse4.2")))
static uint32_t kesto_crc_hardware(uint32_t crc, const unsigned char *p, size_t size)
{
    uint64_t c = crc;
    while (size >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        c = __builtin_ia32_crc32di(c, word);
        p += 8;
        size -= 8;
    }
    while (size--)
        c = __builtin_ia32_crc32qi((uint32_t)c, *p++);
    return (uint32_t)c;
}
#endif

static uint32_t kesto_crc32c(uint32_t seed, const void *data, size_t size)
{
    uint32_t crc = ~seed;
#if defined(__x86_64__) && defined(__GNUC__)
    if (__builtin_cpu_supports("sse4.2"))
        return ~kesto_crc_hardware(crc, data, size);
#endif
    return ~kesto_crc_software(crc, data, size);
}

#endif
