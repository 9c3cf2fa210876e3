/* Tell libFuzzer which code ran, from an extension that gcc compiled with -fsanitize-coverage=trace-pc.
 *
 * clang keeps counters inline; gcc calls a function at each edge. This counts the calls by where they come from.
 */
#pragma once

#include <stdint.h>

#define PYKESTO_EDGES 65536

extern void __sanitizer_cov_8bit_counters_init(uint8_t *first, uint8_t *last);

static uint8_t pykesto_edges[PYKESTO_EDGES];

__attribute__((visibility("hidden"), no_sanitize_address, no_sanitize_coverage)) void __sanitizer_cov_trace_pc(void) {
    uintptr_t from = (uintptr_t)__builtin_return_address(0) - (uintptr_t)pykesto_edges;
    pykesto_edges[from * UINT64_C(0x9E3779B97F4A7C15) >> 48]++;
}

__attribute__((constructor, no_sanitize_address, no_sanitize_coverage)) static void pykesto_tell_edges(void) {
    __sanitizer_cov_8bit_counters_init(pykesto_edges, pykesto_edges + PYKESTO_EDGES);
}

/* Comparisons of floats, which only gcc tells. */
#define PYKESTO_UNTOLD __attribute__((visibility("hidden"), no_sanitize_address, no_sanitize_coverage))

PYKESTO_UNTOLD void __sanitizer_cov_trace_cmpf(float a, float b) {}

PYKESTO_UNTOLD void __sanitizer_cov_trace_cmpd(double a, double b) {}
