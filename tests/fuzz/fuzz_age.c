/* Whole age files, as they come. Input: bytes at once (1 byte), the file. */
#include "tests/fuzz/age_try.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_of(data, size);
    size_t step = fuzz_number(&in, 1) + 1;
    AUTO_BUF out = BUF_INIT;

    age_try(in, step, &out);
    return 0;
}
