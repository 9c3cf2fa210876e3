/* Numbers as the journal has them, little-endian, wherever they stand. */
#ifndef KESTO_NUMBERS_H
#define KESTO_NUMBERS_H
#include <endian.h>
#include <stdint.h>
#include <string.h>
static inline uint32_t kesto_u32(const char *p) { uint32_t v; memcpy(&v, p, 4); return le32toh(v); }
static inline uint64_t kesto_u64(const char *p) { uint64_t v; memcpy(&v, p, 8); return le64toh(v); }
/* Where the next bytes go. */
static inline char *kesto_add32(char *p, uint32_t v) { v = htole32(v); memcpy(p, &v, 4); return p + 4; }
static inline char *kesto_add64(char *p, uint64_t v) { v = htole64(v); memcpy(p, &v, 8); return p + 8; }
#endif
