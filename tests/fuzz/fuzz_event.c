/* SPDX-License-Identifier: MIT */
/*
 * An event from its bytes to the mirror's row and into the hands of a script.
 *
 * libFuzzer: -dict=tests/fuzz/event.dict -detect_leaks=0
 */
#include "workos/event.h"

#include "base/log.h"
#include "base/text.h"
#include "script/script.h"
#include "workos/mirror.h"
#include "workos/tables.h"

#include <assert.h>
#include <string.h>

#include "scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char handlers[] =
    "local authkit = require 'authkit'\n"
    "authkit.schema { seen = { columns = { id = 'text?', data = 'json?', n = 'integer?' } } }\n"
    "local function put(ctx, event)\n"
    "  local data = event.data\n"
    "  local id = ctx.db.insert('seen', { data = data })\n"
    "  pcall(ctx.db.patch, 'seen', id, { id = data.id, n = data.n })\n"
    "  local row = ctx.db.get('seen', id)\n"
    "  assert(type(row.data) == 'table')\n"
    "  local user = type(data.id) == 'string' and not data.id:find('\\0')\n"
    "    and ctx.users.get(data.id)\n"
    "  if user then pcall(ctx.db.insert, 'seen', user.metadata) end\n"
    "  for key, value in pairs(data) do pcall(ctx.log.info, key, data) end\n"
    "  error(event.event)\n"
    "end\n"
    "authkit.events { ['user.created'] = put }\n";

static struct db *db;
static struct mirror *mirror;
static struct script *script;

static void set_up(void)
{
    struct script_opts opts = {
        .memory_bytes = 64 << 20, .event_timeout_ms = 5000, .action_timeout_ms = 5000};
    char path[SCRATCH_PATH_MAX];
    struct buf report = BUF_INIT(65536);
    struct err err;
    int fd = 0;

    log_setup(LOG_LEVEL_ERROR + 1, LOG_FORMAT_TEXT);
    db = scratch_db();
    scratch_file(&fd, (const uint8_t *)handlers, strlen(handlers), path);
    opts.path = path;
    opts.tables = mirror_script_tables(&opts.table_count);
    if (tables_migrate(db, &err) < 0 || mirror_prepare(&mirror, db, &err) < 0 ||
        script_load(&script, &opts, &err) < 0 || script_migrate(script, db, &report, &err) < 0)
        scratch_fail("set up", &err);
    buf_release(&report);
}

static void take(struct event *event)
{
    struct err err = {0};
    int rc;

    scratch_exec(db, "BEGIN IMMEDIATE");
    for (int i = 0; i < 2; i++)
        if (mirror_apply(mirror, event, NULL, &err) < 0)
            scratch_fail("mirror_apply", &err);
    rc = script_run_event(script, db, "user.created", &event->json, true, &err);
    assert(rc == ERR_SCRIPT);
    scratch_exec(db, "ROLLBACK");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct event event;
    struct err err;

    if (!db)
        set_up();
    if (event_read(&event, (const char *)data, size, &err) < 0) {
        assert(text_is_utf8(err.text, strlen(err.text)));
        return 0;
    }
    assert(event.id[0] && event.type[0]);
    take(&event);
    event_release(&event);
    return 0;
}
