// Counts the heap allocations of the calling thread, by standing in front of glibc's malloc in the
// test program.
#pragma once
#include <stdint.h>

/// Allocations of this thread so far; 0 for ever when the counter could not be put in (sanitizers).
uint64_t malloc_counter_value(void);
