/* SPDX-License-Identifier: MIT */
#include "app/sample_file.h"

#include "base/json.h"

#include <string.h>

/* An action says what it is by its object, which ends so (workos/action.h). */
#define ACTION_SUFFIX "_action_context"

enum { TYPE_MAX = 256 };

/* The type of the whole event or action that the text is; "" for anything else, also for one whose type is no
 * text: what is wrong with it is the server's to say. */
static void read_type(const struct json *json, bool *out_is_event, char out[TYPE_MAX])
{
    uint32_t event = json_member(json, 0, "event"), object;
    size_t suffix_len = strlen(ACTION_SUFFIX), len;

    out[0] = '\0';
    *out_is_event = event && json_member(json, 0, "data");
    if (*out_is_event) {
        if (json->nodes[event].type == JSON_STRING && json->nodes[event].len < TYPE_MAX)
            out[json_decode(json, event, out)] = '\0';
        return;
    }
    object = json_string_member(json, 0, "object");
    if (!object || json->nodes[object].len >= TYPE_MAX)
        return;
    len = json_decode(json, object, out);
    len = len > suffix_len && memcmp(out + len - suffix_len, ACTION_SUFFIX, suffix_len) == 0
              ? len - suffix_len
              : 0;
    out[len] = '\0';
}

/* text becomes the same with this id in the object: that of the document, or of its data. */
static int set_id(struct buf *text, bool of_data, const char *id, const char *path, struct err *err)
{
    struct buf changed = BUF_INIT(text->max);
    struct json json = {0};
    uint32_t object, old;
    const char *at = NULL;
    size_t len = 0, before;
    int rc = json_read(&json, buf_text(text), text->len, err);

    if (rc < 0)
        goto out;
    object = of_data ? json_member(&json, 0, "data") : 0;
    if (json.nodes[object].type != JSON_OBJECT) {
        rc = err_set(err, ERR_INVALID,
                     "--data: what is in '%s' has no place for an id: %s no object", path,
                     of_data ? "its data are" : "it is");
        goto out;
    }
    old = json_member(&json, object, "id");
    at = json_raw(&json, old ? old : object, &len);
    before = (size_t)(at - buf_text(text)) + (old ? 0 : 1);
    buf_put(&changed, buf_text(text), before);
    buf_puts(&changed, old ? "" : "\"id\":");
    buf_put_json_string(&changed, id, strlen(id));
    buf_puts(&changed, old || json.nodes[object].count == 0 ? "" : ",");
    before += old ? len : 0;
    buf_put(&changed, buf_text(text) + before, text->len - before);
    if (!buf_ok(&changed)) {
        rc = err_set(err, ERR_NOMEM, "no memory for what is in '%s'", path);
        goto out;
    }
    buf_release(text);
    *text = changed;
    changed = BUF_INIT(0);
out:
    json_release(&json);
    buf_release(&changed);
    return rc;
}

static int check_type(const char *wanted, const char *found, bool is_event, const char *path,
                      struct err *err)
{
    if (!*found || strcmp(wanted, found) == 0)
        return 0;
    return err_set(
        err, ERR_CONFLICT,
        "what is in '%s' is of the %s %s, and %s was asked for: name the one that is meant", path,
        is_event ? "type" : "action", found, wanted);
}

int sample_file_write(const struct sample_opts *opts, const struct sample_file *file,
                      struct buf *out, struct err *err)
{
    struct sample_opts whole = *opts;
    struct buf text = BUF_INIT(out->max);
    struct json json = {0};
    char type[TYPE_MAX];
    bool is_event = false, is_action = sample_is_action(opts->type);
    int rc = json_read(&json, file->text, file->len, err);

    if (rc < 0) {
        err_prefix(err, "--data: '%s' is ", file->path);
        goto out;
    }
    read_type(&json, &is_event, type);
    rc = check_type(opts->type, type, is_event, file->path, err);
    buf_put(&text, file->text, file->len);
    if (rc == 0 && opts->event_id && is_event)
        rc = set_id(&text, false, opts->event_id, file->path, err);
    if (rc == 0 && opts->object_id)
        rc = set_id(&text, is_event, opts->object_id, file->path, err);
    if (rc < 0)
        goto out;
    if (is_event || is_action) {
        buf_put(out, buf_text(&text), text.len);
        goto out;
    }
    whole.data = buf_text(&text);
    whole.data_len = text.len;
    rc = sample_write(&whole, out, err);
out:
    json_release(&json);
    buf_release(&text);
    return rc;
}
