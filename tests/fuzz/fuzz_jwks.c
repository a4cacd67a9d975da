/* SPDX-License-Identifier: MIT */
/*
 * A key set, as a server lists it.
 *
 * libFuzzer: -dict=tests/fuzz/token.dict
 */
#include "auth/key_set.h"

#include "base/text.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned char signature[256] = {1};
    struct key_set *set = NULL, *again = NULL;
    struct err err;
    bool is_genuine = true;

    if (key_set_read(&set, (const char *)data, size, &err) < 0) {
        assert(!set && text_is_utf8(err.text, strlen(err.text)));
        return 0;
    }
    assert(key_set_count(set) >= 1 && key_set_count(set) <= KEY_SET_MAX);
    assert(!key_set_has(set, ""));
    assert(key_set_verify(set, "k1", "x", 1, signature, sizeof(signature), &is_genuine, NULL) == 0);
    assert(!is_genuine);
    assert(key_set_read(&again, (const char *)data, size, &err) == 0);
    assert(key_set_equal(set, again));
    key_set_release(set);
    key_set_release(again);
    return 0;
}
