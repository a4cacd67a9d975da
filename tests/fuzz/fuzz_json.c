/* SPDX-License-Identifier: MIT */
/* json_read, and everything that can be asked of what it has read. */
#include "base/json.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_at(const struct json *json, uint32_t node)
{
    const struct json_node *n = &json->nodes[node];
    char *decoded;
    size_t len;
    int64_t integer;
    double real;

    assert(n->next > node && n->next <= json->count);
    assert(json_raw(json, node, &len) != NULL && len >= n->len);
    switch (n->type) {
    case JSON_STRING:
        decoded = malloc(n->len + 1); /* one more: malloc(0) may be NULL */
        len = json_decode(json, node, decoded);
        assert(len <= n->len);
        assert(text_is_utf8(decoded, len));
        free(decoded);
        break;
    case JSON_NUMBER:
        real = json_to_real(json, node);
        if (json_to_int(json, node, &integer))
            assert((double)integer == real);
        break;
    case JSON_OBJECT:
        assert(json_member(json, node, "id") < n->next);
        assert(json_string_member(json, node, "object") < n->next);
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json json = {0};
    struct err err;

    if (json_read(&json, (const char *)data, size, &err) == 0)
        for (uint32_t node = 0; node < json.count; node++)
            look_at(&json, node);
    else
        assert(text_is_utf8(err.text, strlen(err.text)));
    json_release(&json);
    return 0;
}
