// For passes over the whole vocabulary.
#pragma once

// Compiles a function for wider registers as well, chosen when the addon is loaded.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define COLDSTART_WIDE __attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3")))
#else
#define COLDSTART_WIDE
#endif
