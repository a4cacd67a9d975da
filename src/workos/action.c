/* SPDX-License-Identifier: MIT */
#include "workos/action.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "workos/workos_state.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_BYTES = 64, PAYLOAD_MAX = 16384 };
static const char context_suffix[] = "_action_context";
const char *const action_names[ACTION_NAMES] = {"user_registration", "authentication"};

struct action {
    struct writer_job job; /* first: it is cast back */
    struct workos *workos;
    struct json json;
    char name[NAME_MAX_BYTES];
    size_t key; /* the secret that the request was signed with */
    void (*done)(void *arg);
    void *arg;

    /* how it went */
    bool has_function;
    struct script_verdict verdict;
    int rc;
    struct err err;
};

static int run_action(struct writer_job *job, struct db *db, struct err *err)
{
    struct action *action = (struct action *)job;
    struct workos *workos = action->workos;
    struct script *script = workos->script;
    int64_t began_ns;
    int rc;

    action->has_function = script && script_handles_action(script, action->name);
    if (!action->has_function)
        return 0;
    began_ns = clock_mono_ns();
    watchdog_enter(workos->watchdog, WATCHDOG_ACTION, action->name, "");
    rc = script_run_action(script, db, action->name, &action->json, &action->verdict, err);
    watchdog_leave(workos->watchdog);
    note_function(workos, &workos->counts.action_functions, clock_mono_ns() - began_ns);
    return rc;
}

/* "user_registration_action_context" -> "user_registration" */
static int read_action(struct action *action, const char *body, size_t body_len, struct err *err)
{
    size_t suffix_len = strlen(context_suffix);
    uint32_t object;
    const struct json_node *node;
    int rc = json_read(&action->json, body, body_len, err);

    if (rc < 0)
        return rc;
    object = json_string_member(&action->json, 0, "object");
    if (object == JSON_ABSENT)
        return err_set(err, ERR_INVALID, "not an action: \"object\" is missing or not a string");
    node = &action->json.nodes[object];
    if (node->escaped || node->len <= suffix_len ||
        memcmp(body + node->start + node->len - suffix_len, context_suffix, suffix_len) != 0)
        return err_set(err, ERR_INVALID, "not an action: \"object\" doesn't end in \"%s\"",
                       context_suffix);
    if (node->len - suffix_len >= NAME_MAX_BYTES)
        return err_set(err, ERR_INVALID, "not an action: \"object\" has more than %zu bytes",
                       NAME_MAX_BYTES - 1 + suffix_len);
    memcpy(action->name, body + node->start, node->len - suffix_len);
    return 0;
}

/* The message as valid UTF-8, at most ACTION_MESSAGE_MAX UTF-16 units, as a JSON string. */
static void put_message(struct buf *out, const struct buf *message)
{
    struct buf clean = BUF_INIT(PAYLOAD_MAX);
    size_t at = 0, units = 0;

    while (at < message->len && units < ACTION_MESSAGE_MAX) {
        size_t size = text_utf8_size(message->data + at, message->len - at);

        if (size == 0)
            buf_puts(&clean, TEXT_REPLACEMENT);
        else
            buf_put(&clean, message->data + at, size);
        at += size ? size : 1;
        units += size == 4 ? 2 : 1;
    }
    buf_put_json_string(out, buf_text(&clean),
                        text_utf16_prefix(buf_text(&clean), clean.len, ACTION_MESSAGE_MAX));
    buf_release(&clean);
}

int action_write_response(const struct signing_keys *keys, size_t key, const char *name,
                          const struct script_verdict *verdict, int64_t timestamp_ms,
                          struct buf *response, struct err *err)
{
    struct buf payload = BUF_INIT(PAYLOAD_MAX);
    char signature[65];
    int rc;

    buf_printf(&payload, "{\"timestamp\":%" PRId64 ",\"verdict\":\"%s\"", timestamp_ms,
               verdict->allow ? "Allow" : "Deny");
    if (!verdict->allow && verdict->has_message) {
        buf_puts(&payload, ",\"error_message\":");
        put_message(&payload, &verdict->message);
    }
    buf_putc(&payload, '}');
    rc = buf_ok(&payload) ? signature_make(keys, key, timestamp_ms, buf_text(&payload), payload.len,
                                           signature, err)
                          : err_set(err, ERR_NOMEM, "no memory for an action's response");
    if (rc == 0)
        buf_printf(response,
                   "{\"object\":\"%s_action_response\",\"payload\":%s,\"signature\":\"%s\"}", name,
                   buf_text(&payload), signature);
    buf_release(&payload);
    return rc;
}

/* The verdict that the operator wants when there is no real one; false when they want an error. */
static bool made_up_verdict(const struct workos *workos, struct script_verdict *out)
{
    if (workos->opts.action_on_error == ACTION_ERROR_FAIL)
        return false;
    buf_reset(&out->message);
    out->has_message = false;
    out->allow = workos->opts.action_on_error == ACTION_ERROR_ALLOW;
    return true;
}

static void count_verdict(const struct action *action)
{
    size_t verdict = action->rc < 0          ? VERDICT_ERROR
                     : !action->has_function ? VERDICT_NO_FUNCTION
                     : action->verdict.allow ? VERDICT_ALLOW
                                             : VERDICT_DENY;

    metric_table_count(&action->workos->counts.actions, action->name, verdict);
}

static void finish_action(struct writer_job *job, int rc, const struct err *err)
{
    struct action *action = (struct action *)job;

    action->rc = rc;
    if (rc < 0)
        action->err = *err;
    action->done(action->arg); /* the action may be gone from here on */
}

void action_begin(struct action *action, bool is_waited_for, void (*done)(void *arg), void *arg)
{
    struct err err;
    int rc;

    action->job.done = finish_action;
    action->job.is_waited_for = is_waited_for;
    action->done = done;
    action->arg = arg;
    rc = writer_submit(action->workos->writer, &action->job, &err);
    if (rc < 0) /* else the outcome is the writer's to set, and may be there already */
        finish_action(&action->job, rc, &err);
}

/* WorkOS asks and gets no answer that counts: somebody wants to know it. */
static void log_no_function(const struct action *action)
{
    static const char message[] = "action refused: the script has no function for it";

    if (repeat_may(&action->workos->repeats, clock_mono_ms(), message, action->name))
        log_warn(message, log_str("endpoint", "action"), log_str("code", "no_function"),
                 log_str("action", action->name),
                 log_str("next", "give authkit.actions a function of that name, or have WorkOS not "
                                 "ask (in its dashboard, at Actions)"));
}

static void log_invalid(struct workos *workos, const struct err *err)
{
    static const char message[] = "action refused: it is signed, but no action";

    if (repeat_may(&workos->repeats, clock_mono_ms(), message, err->text))
        log_warn(message, log_str("endpoint", "action"), log_str("code", "invalid_action"),
                 log_str("error", err->text));
}

static enum action_result judge(struct action *action)
{
    static const char message[] = "action function failed";
    struct workos *workos = action->workos;
    struct err *err = &action->err;

    count_verdict(action);
    if (action->rc == 0 && !action->has_function) {
        log_no_function(action);
        return ACTION_NO_FUNCTION;
    }
    if (action->rc == 0)
        return ACTION_DECIDED;
    text_make_utf8(err->text);
    if (repeat_may(&workos->repeats, clock_mono_ms(), message, err->text))
        log_error(message, log_str("action", action->name), log_str("error", err->text));
    if (made_up_verdict(workos, &action->verdict))
        return ACTION_DECIDED;
    return action->rc == ERR_SCRIPT || action->rc == ERR_LIMIT ? ACTION_FAILED : ACTION_UNAVAILABLE;
}

static enum action_result answer(struct action *action, struct buf *response, struct err *err)
{
    struct workos *workos = action->workos;
    enum action_result result = judge(action);

    if (result != ACTION_DECIDED) {
        *err = action->err;
        return result;
    }
    if (action_write_response(workos->action_keys, action->key, action->name, &action->verdict,
                              clock_wall_ms(), response, err) < 0)
        return ACTION_UNAVAILABLE;
    log_debug("action decided", log_str("action", action->name),
              log_str("verdict", action->verdict.allow ? "Allow" : "Deny"));
    return ACTION_DECIDED;
}

static void free_action(struct action *action)
{
    json_release(&action->json);
    buf_release(&action->verdict.message);
    free(action);
}

enum action_result action_close(struct action *action, struct buf *response, struct err *err)
{
    enum action_result result = answer(action, response, err);

    free_action(action);
    return result;
}

static enum action_result read_request(struct action **out, struct workos *workos, size_t key,
                                       const char *body, size_t body_len, struct err *err)
{
    struct action *action = calloc(1, sizeof(*action));
    int rc;

    if (!action) {
        err_set(err, ERR_NOMEM, "no memory for an action");
        return ACTION_UNAVAILABLE;
    }
    action->job = (struct writer_job){.run = run_action, .urgent = true};
    action->workos = workos;
    action->key = key;
    rc = read_action(action, body, body_len, err);
    if (rc < 0) {
        free_action(action);
        if (rc == ERR_NOMEM)
            return ACTION_UNAVAILABLE;
        log_invalid(workos, err);
        return ACTION_INVALID;
    }
    *out = action;
    return ACTION_PENDING;
}

enum action_result action_open(struct action **out, struct workos *workos,
                               const char *signature_header, const char *body, size_t body_len,
                               enum signature_status *out_signature, struct err *err)
{
    struct signature_facts facts = {0};

    if (!workos->action_keys)
        return ACTION_OFF;
    *out_signature = signature_verify(workos->action_keys, signature_header, body, body_len,
                                      clock_wall_ms(), SIGNATURE_ACTION_TOLERANCE_MS, &facts);
    if (*out_signature == SIGNATURE_BROKEN) {
        err_set(err, ERR_NOMEM, "no memory to check a signature");
        return ACTION_UNAVAILABLE;
    }
    if (*out_signature != SIGNATURE_OK) {
        signature_log_refusal("action", *out_signature, &facts);
        return ACTION_REFUSED;
    }
    return read_request(out, workos, facts.key, body, body_len, err);
}
