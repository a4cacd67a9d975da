/* SPDX-License-Identifier: MIT */
#include "fetch/fetch.h"

#include "base/clock.h"
#include "base/text.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { BEARER_MAX = 4096, SLICE_MS = 50 };

struct fetch {
    struct fetch_opts opts;
    char *user_agent;
    CURLM *multi; /* keeps the connections */
    CURL *curl;
    char problem[CURL_ERROR_SIZE];
};

/* What the callbacks of one call share. */
struct call {
    struct fetch *fetch;
    struct fetch_response *response;
    bool is_connected;
    int64_t heard_ms; /* when it was, or when the last bytes came */
    bool has_head;    /* all of it: libcurl takes half a head for an answer */
    bool too_large;
    bool was_cancelled;
    bool has_stalled;
};

int fetch_set_up(struct err *err)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return err_set(err, ERR_NOMEM, "libcurl can't be set up");
    return 0;
}

const char *fetch_library_version(void)
{
    return curl_version();
}

/* ---------------------------------------------------------------------------------- callbacks */

static size_t on_body(char *bytes, size_t one, size_t len, void *arg)
{
    struct call *call = arg;

    (void)one;
    call->heard_ms = clock_mono_ms();
    buf_put(&call->response->body, bytes, len);
    if (buf_ok(&call->response->body))
        return len;
    call->too_large = true;
    return 0; /* ends the transfer */
}

/* The value of the header when the line is one of that name; NULL otherwise. */
static const char *header_value(const char *line, size_t len, const char *name, size_t *out_len)
{
    size_t name_len = strlen(name);

    if (len <= name_len || line[name_len] != ':' || strncasecmp(line, name, name_len) != 0)
        return NULL;
    line += name_len + 1;
    len -= name_len + 1;
    while (len > 0 && (*line == ' ' || *line == '\t')) {
        line++;
        len--;
    }
    while (len > 0 && strchr(" \t\r\n", line[len - 1]))
        len--;
    *out_len = len;
    return line;
}

static int64_t parse_retry_after(const char *value, size_t len)
{
    uint64_t seconds;
    char text[64];
    time_t date;

    if (text_to_u64(value, len, INT32_MAX, &seconds))
        return (int64_t)seconds * 1000;
    if (len >= sizeof(text))
        return -1;
    memcpy(text, value, len);
    text[len] = '\0';
    date = curl_getdate(text, NULL);
    if (date < 0)
        return -1;
    return (int64_t)date * 1000 > clock_wall_ms() ? (int64_t)date * 1000 - clock_wall_ms() : 0;
}

static size_t on_header(char *line, size_t one, size_t len, void *arg)
{
    struct call *call = arg;
    struct fetch_response *response = call->response;
    const char *value;
    size_t value_len;

    (void)one;
    call->heard_ms = clock_mono_ms();
    if (len <= 2)
        call->has_head = true;
    else if (len > 5 && memcmp(line, "HTTP/", 5) == 0)
        call->has_head = false; /* another one, behind 100 Continue */
    value = header_value(line, len, "Retry-After", &value_len);
    if (value)
        response->retry_after_ms = parse_retry_after(value, value_len);
    value = header_value(line, len, "X-Request-ID", &value_len);
    if (value && value_len < sizeof(response->request_id)) {
        memcpy(response->request_id, value, value_len);
        response->request_id[value_len] = '\0';
    }
    return len;
}

static int on_connection(void *arg, char *a, char *b, int c, int d)
{
    struct call *call = arg;

    (void)a, (void)b, (void)c, (void)d;
    call->is_connected = true;
    call->heard_ms = clock_mono_ms();
    return CURL_PREREQFUNC_OK;
}

/* ---------------------------------------------------------------------------------- set-up */

/* Where distributions keep the roots; SSL_CERT_FILE wins over all of them. */
static const char *find_roots(void)
{
    static const char *const places[] = {
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
    };
    const char *told = getenv("SSL_CERT_FILE");

    if (told && *told)
        return told;
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (access(places[i], R_OK) == 0)
            return places[i];
    return places[0]; /* so that the error names a file */
}

static void set_up_handle(struct fetch *fetch)
{
    CURL *curl = fetch->curl;

    curl_easy_setopt(curl, CURLOPT_USERAGENT, fetch->user_agent);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, fetch->problem);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(curl, CURLOPT_CAINFO, find_roots());
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)fetch->opts.connect_timeout_ms);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)fetch->opts.timeout_ms);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_PREREQFUNCTION, on_connection);
    curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L); /* nobody waits for a name server any longer */
}

int fetch_new(struct fetch **out, const struct fetch_opts *opts, struct err *err)
{
    struct fetch *fetch = calloc(1, sizeof(*fetch));

    if (fetch) {
        fetch->opts = *opts;
        fetch->user_agent = strdup(opts->user_agent);
        fetch->curl = curl_easy_init();
        fetch->multi = curl_multi_init();
    }
    if (!fetch || !fetch->user_agent || !fetch->curl || !fetch->multi) {
        fetch_free(fetch);
        return err_set(err, ERR_NOMEM, "no memory for an HTTP client");
    }
    *out = fetch;
    return 0;
}

void fetch_free(struct fetch *fetch)
{
    if (!fetch)
        return;
    curl_easy_cleanup(fetch->curl);
    curl_multi_cleanup(fetch->multi);
    free(fetch->user_agent);
    free(fetch);
}

void fetch_put_escaped(struct buf *out, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if ((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || strchr("-._~", c))
            buf_putc(out, (char)c);
        else
            buf_printf(out, "%%%02X", c);
    }
}

/* ---------------------------------------------------------------------------------- a call */

/* What would end the header, or hide a part of it, has no place in a key. */
static int check_bearer(const struct fetch_request *request, struct err *err)
{
    const char *key = request->bearer;

    if (!key)
        return 0;
    if (strlen(key) > BEARER_MAX)
        return err_set(err, ERR_INVALID, "%s: the key is longer than %d bytes", request->url,
                       BEARER_MAX);
    for (; *key; key++)
        if (*key <= ' ' || *key > '~')
            return err_set(err, ERR_INVALID, "%s: the key has a character that no key has",
                           request->url);
    return 0;
}

/* False when memory ran out; what was there before is there still. */
static bool add_header(struct curl_slist **headers, const char *line)
{
    struct curl_slist *more = curl_slist_append(*headers, line);

    if (more)
        *headers = more;
    return more != NULL;
}

static struct curl_slist *make_headers(const struct fetch_request *request)
{
    struct curl_slist *headers = NULL;
    char authorization[BEARER_MAX + 32];
    bool fine = add_header(&headers, "Accept: application/json");

    if (request->bearer) {
        snprintf(authorization, sizeof(authorization), "Authorization: Bearer %s", request->bearer);
        fine = fine && add_header(&headers, authorization);
        explicit_bzero(authorization, sizeof(authorization));
    }
    if (request->json)
        fine = fine && add_header(&headers, "Content-Type: application/json");
    if (fine)
        return headers;
    curl_slist_free_all(headers);
    return NULL;
}

static int word_error(const struct call *call, const struct fetch_request *request, CURLcode code,
                      struct err *err)
{
    const char *problem = call->fetch->problem[0] ? call->fetch->problem : curl_easy_strerror(code);
    const char *url = request->url;
    int len = (int)strcspn(url, "?"); /* the query is long, and tells nobody anything */

    if (call->was_cancelled)
        return err_set(err, ERR_CLOSED, "%.*s was cancelled", len, url);
    if (call->too_large)
        return err_set(err, ERR_LIMIT, "%.*s: the answer is larger than %zu bytes", len, url,
                       call->fetch->opts.max_bytes);
    if (call->has_stalled)
        return err_set(err, ERR_IO, "%.*s: nothing came for %d ms", len, url,
                       call->fetch->opts.stall_ms);
    if (code == CURLE_OK)
        return err_set(err, ERR_IO, "%.*s: the answer ended in the middle of its head", len, url);
    if (code == CURLE_OUT_OF_MEMORY && call->is_connected) /* libcurl says the same of both */
        return err_set(
            err, ERR_IO,
            "%.*s: a line of the answer's head is too long, or there is no memory for it", len,
            url);
    if (code == CURLE_OUT_OF_MEMORY)
        return err_set(err, ERR_NOMEM, "no memory for a request to %.*s", len, url);
    if (code == CURLE_URL_MALFORMAT ||
        (code == CURLE_UNSUPPORTED_PROTOCOL && !call->is_connected)) /* an answer's, otherwise */
        return err_set(err, ERR_INVALID, "'%s' is no http or https URL", request->url);
    return err_set(err, ERR_IO, "%.*s: %s", len, url, problem);
}

static bool goes_on(struct call *call)
{
    const struct fetch_opts *opts = &call->fetch->opts;

    call->was_cancelled = opts->cancelled && opts->cancelled(opts->arg);
    call->has_stalled = call->is_connected && clock_mono_ms() - call->heard_ms >= opts->stall_ms;
    return !call->was_cancelled && !call->has_stalled;
}

/*
 * By the multi interface, though there is one request. curl_easy_perform asks only once a second
 * whether to go on, and what it calls low speed is an average of five seconds without the head.
 */
static CURLcode perform(struct call *call)
{
    CURLM *multi = call->fetch->multi;
    CURLcode code = CURLE_OUT_OF_MEMORY;
    struct CURLMsg *message;
    int running, left;

    if (curl_multi_add_handle(multi, call->fetch->curl) != CURLM_OK)
        return code;
    while (curl_multi_perform(multi, &running) == CURLM_OK && running > 0 && goes_on(call))
        if (curl_multi_poll(multi, NULL, 0, SLICE_MS, NULL) != CURLM_OK)
            break;
    while ((message = curl_multi_info_read(multi, &left)) != NULL)
        if (message->msg == CURLMSG_DONE)
            code = message->data.result;
    curl_multi_remove_handle(multi, call->fetch->curl);
    return code;
}

int fetch_call(struct fetch *fetch, const struct fetch_request *request, struct fetch_response *out,
               struct err *err)
{
    struct call call = {.fetch = fetch, .response = out};
    struct curl_slist *headers;
    long status = 0;
    CURLcode code;
    CURL *curl = fetch->curl;
    int rc = check_bearer(request, err);

    if (rc < 0)
        return rc;
    headers = make_headers(request);
    if (!headers)
        return err_set(err, ERR_NOMEM, "no memory for a request to %s", request->url);
    *out = (struct fetch_response){.retry_after_ms = -1, .body = BUF_INIT(fetch->opts.max_bytes)};
    fetch->problem[0] = '\0';
    curl_easy_reset(curl);
    set_up_handle(fetch);
    curl_easy_setopt(curl, CURLOPT_URL, request->url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    if (request->json) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->json);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->json_len);
    }
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &call);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &call);
    curl_easy_setopt(curl, CURLOPT_PREREQDATA, &call);
    code = perform(&call);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    out->status = (int)status;
    if (code == CURLE_OK && call.has_head)
        return 0;
    fetch_response_release(out);
    return word_error(&call, request, code, err);
}

void fetch_response_release(struct fetch_response *response)
{
    buf_release(&response->body);
}
