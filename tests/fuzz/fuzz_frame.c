/* SPDX-License-Identifier: MIT */
/*
 * A connection's bytes, cut into requests piece by piece as the gate does, against two other readings
 * of the same bytes: one written down here, by lines, and civetweb's.
 *
 * The first byte of the input says how long the pieces are; a byte 255 behind it stands for a run of
 * letters, so that small inputs reach the limit of the header block.
 *
 * libFuzzer: -dict=tests/fuzz/frame.dict
 */
#include "http/frame.h"

#include "http/civetweb_unit.h"

#include <assert.h>
#include <civetweb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_reading.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BODY_MAX = 1000, RUN = 4000, BYTES_MAX = 40 * 1000, REQUESTS_MAX = 64 };

/* What was said of the requests of a connection, up to the first odd or unfinished one. */
struct history {
    struct http_frame frames[REQUESTS_MAX];
    size_t starts[REQUESTS_MAX];
    size_t count;
    bool last_is_ready;
};

/* --- as the gate reads -------------------------------------------------------------------------- */

/* Ask about the first len bytes, which stand in a block of just that size: that nothing behind them
 * is looked at, a sanitizer sees. */
static bool ask(struct http_frame *frame, const char *bytes, size_t len)
{
    char *exact = malloc(len ? len : 1);
    bool ready;

    memcpy(exact, bytes, len);
    ready = http_frame_is_ready(frame, exact, len, BODY_MAX);
    if (ready && !frame->is_odd && len < http_frame_size(frame)) {
        assert(frame->expects);
        frame->continued = true; /* as a worker does; then the body is waited for */
        ready = http_frame_is_ready(frame, exact, len, BODY_MAX);
        assert(!ready);
    }
    free(exact);
    return ready;
}

/* Longer ones as more has come: looking at each again and again would take long. */
static size_t next_piece(uint8_t how, uint32_t *random, size_t got, size_t left)
{
    size_t piece;

    *random = *random * 1664525 + 1013904223;
    if (how == 0)
        piece = left; /* all at once */
    else if (how == 1)
        piece = *random >> 28 ? 1 : 1000; /* byte by byte, and a gulp now and then */
    else
        piece = 1 + (*random >> 16) % (how * 8u + got / 32);
    return piece < left ? piece : left;
}

static void read_in_pieces(const char *bytes, size_t len, uint8_t how, struct history *out)
{
    uint32_t random = how;
    size_t start = 0, got = 0;

    *out = (struct history){0};
    for (; out->count < REQUESTS_MAX; out->count++) {
        struct http_frame *frame = &out->frames[out->count];
        bool ready = got > start && ask(frame, bytes + start, got - start);

        while (!ready && got < len) {
            got += next_piece(how, &random, got, len - got);
            ready = ask(frame, bytes + start, got - start);
        }
        out->starts[out->count] = start;
        out->last_is_ready = ready;
        if (!ready || frame->is_odd)
            break;
        start += http_frame_size(frame);
    }
}

static void check_same(const struct history *a, const struct history *b)
{
    assert(a->count == b->count && a->last_is_ready == b->last_is_ready);
    for (size_t i = 0; i <= a->count && i < REQUESTS_MAX; i++) {
        const struct http_frame *x = &a->frames[i], *y = &b->frames[i];

        assert(a->starts[i] == b->starts[i]);
        assert(x->is_odd == y->is_odd && x->header_len == y->header_len);
        assert(x->body_len == y->body_len && x->expects == y->expects);
    }
}

/* --- where a header block ends ------------------------------------------------------------------ */

static size_t end_of(const char *bytes, size_t len, const char *what)
{
    const char *at = memmem(bytes, len, what, strlen(what));

    return at ? (size_t)(at - bytes) + strlen(what) : SIZE_MAX;
}

static size_t first_control(const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)bytes[i] < ' ' && !strchr("\r\n", bytes[i])) || bytes[i] == 127 ||
            bytes[i] == '\0')
            return i;
    return SIZE_MAX;
}

static void check_block(const struct http_frame *frame, bool ready, const char *bytes, size_t len)
{
    size_t lines = end_of(bytes, len, "\n\n"), pairs = end_of(bytes, len, "\r\n\r\n");
    size_t end = lines < pairs ? lines : pairs;

    if (first_control(bytes, len) < end || end > HTTP_HEADER_BLOCK_MAX) {
        bool hopeless =
            first_control(bytes, len) < HTTP_HEADER_BLOCK_MAX || len >= HTTP_HEADER_BLOCK_MAX;

        assert(frame->header_len == 0 && frame->body_len == 0);
        assert(ready == hopeless && frame->is_odd == hopeless);
        return;
    }
    assert(frame->header_len == end && frame->body_len <= BODY_MAX);
    assert(ready == (frame->is_odd || len >= end + frame->body_len));
}

/* --- what stands in it -------------------------------------------------------------------------- */

/* The frame waited for a body: then there was one way only to say how long it is, and vice versa. */
static void check_length(const struct http_frame *frame, const struct reading *reading)
{
    size_t lengths, encodings, expectations;
    const struct piece *length = header(reading, "Content-Length", &lengths);
    struct piece digits = length ? *length : (struct piece){"0", 1};

    header(reading, "Transfer-Encoding", &encodings);
    header(reading, "Expect", &expectations);
    if (encodings > 0 || lengths > 1 || length_of(digits, BODY_MAX) < 0) {
        assert(frame->is_odd && frame->body_len == 0);
    } else {
        assert(!frame->is_odd && frame->body_len == (size_t)length_of(digits, BODY_MAX));
        assert(frame->expects == (expectations > 0));
    }
}

/* --- civetweb ----------------------------------------------------------------------------------- */

/* What another connection's request has left in the buffer: none of it may ever be seen again. */
static void leave_rest(struct mg_connection *conn)
{
    static const char old[] = "POST /other HTTP/1.1\r\nHost: other\r\nContent-Length: 7\r\n\r\n";
    static char rest[HTTP_HEADER_BLOCK_MAX];

    for (size_t i = 0; rest[0] == '\0' && i + sizeof(old) < sizeof(rest); i += sizeof(old) - 1)
        memcpy(rest + i, old, sizeof(old) - 1);
    cw_begin(conn, rest, sizeof(rest));
}

/* What civetweb made of the block, where it is strict, is what stands there. */
static void check_civetweb(const struct http_frame *frame, const char *bytes, size_t len)
{
    static struct mg_connection *conn;
    static char block[BYTES_MAX];
    size_t block_len = frame->header_len ? frame->header_len : len;
    const struct mg_request_info *ri;
    struct reading reading;

    if (!conn)
        conn = cw_nobody_new(HTTP_HEADER_BLOCK_MAX);
    assert(conn);
    leave_rest(conn);
    memcpy(block, bytes, block_len);
    http_frame_move_tails(frame, block);
    cw_begin(conn, block, block_len);
    if (!cw_parse(conn)) {
        assert(!cw_was_asked(conn) || frame->header_len > 0);
        return;
    }
    assert(cw_header_len(conn) == frame->header_len);
    ri = mg_get_request_info(conn);
    if (ri->num_headers >= READING_HEADERS_MAX || !cw_is_strict(conn, block))
        return;
    if (!read_strictly((struct piece){bytes, frame->header_len}, &reading))
        abort();
    assert(is_text(reading.words[0], ri->request_method));
    assert(is_text(reading.words[1], ri->request_uri));
    assert(reading.words[2].len >= 5 && strncmp(reading.words[2].at, "HTTP/", 5) == 0);
    assert(reading.words[2].len - 5 == strlen(ri->http_version));
    assert(reading.header_count == (size_t)ri->num_headers);
    for (size_t i = 0; i < reading.header_count; i++) {
        assert(is_text(reading.names[i], ri->http_headers[i].name));
        assert(is_text(reading.values[i], ri->http_headers[i].value));
    }
    check_length(frame, &reading);
}

/* --- all together ------------------------------------------------------------------------------- */

static size_t expand(const uint8_t *data, size_t size, char *out)
{
    size_t len = 0;

    for (size_t i = 0; i < size && len < BYTES_MAX; i++) {
        size_t n = data[i] == 255 ? RUN : 1;

        if (n > BYTES_MAX - len)
            n = BYTES_MAX - len;
        memset(out + len, data[i] == 255 ? 'x' : data[i], n);
        len += n;
    }
    return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char bytes[BYTES_MAX];
    static struct history whole, pieces;
    size_t len;

    if (size == 0)
        return 0;
    len = expand(data + 1, size - 1, bytes);
    read_in_pieces(bytes, len, 0, &whole);
    if (data[0] > 0) {
        read_in_pieces(bytes, len, data[0], &pieces);
        check_same(&whole, &pieces);
    }
    for (size_t i = 0; i <= whole.count && i < REQUESTS_MAX; i++) {
        const struct http_frame *frame = &whole.frames[i];
        const char *start = bytes + whole.starts[i];
        bool ready = i < whole.count || whole.last_is_ready;

        check_block(frame, ready, start, len - whole.starts[i]);
        if (ready)
            check_civetweb(frame, start, len - whole.starts[i]);
    }
    return 0;
}
