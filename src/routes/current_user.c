/* SPDX-License-Identifier: MIT */
#include "routes/current_user.h"

#include "workos/mirror.h"

#include <inttypes.h>
#include <string.h>

static const char table_name[] = "workos_users";
enum { SQL_MAX = 4096 };

static const struct script_table *find_table(void)
{
    size_t count;
    const struct script_table *table = mirror_script_tables(&count);

    while (strcmp(table->name, table_name) != 0)
        table++;
    return table;
}

static bool is_shown(const struct script_column *column)
{
    return strcmp(column->name, "raw") != 0;
}

static int prepare(struct reader *reader, const struct script_table *table, struct err *err)
{
    struct buf sql = BUF_INIT(SQL_MAX);
    int rc;

    for (size_t i = 0; i < table->column_count; i++)
        if (is_shown(&table->columns[i]))
            buf_printf(&sql, "%s%s", sql.len ? ", " : "SELECT ", table->columns[i].name);
    buf_printf(&sql, " FROM %s WHERE id = ?", table_name);
    rc = buf_ok(&sql) ? stmt_new(&reader->user, reader->db, buf_text(&sql), err)
                      : err_set(err, ERR_NOMEM, "no memory for a statement");
    buf_release(&sql);
    return rc;
}

static void put_value(struct stmt *stmt, int i, enum script_type type, struct buf *out)
{
    size_t len;
    const char *text;

    if (stmt_column_type(stmt, i) == STMT_NULL) {
        buf_puts(out, "null");
        return;
    }
    switch (type) {
    case SCRIPT_BOOLEAN:
        buf_puts(out, stmt_int(stmt, i) ? "true" : "false");
        break;
    case SCRIPT_INTEGER:
        buf_printf(out, "%" PRId64, stmt_int(stmt, i));
        break;
    case SCRIPT_REAL:
        buf_printf(out, "%.17g", stmt_real(stmt, i));
        break;
    case SCRIPT_JSON: /* as it came from WorkOS, when it was checked */
        text = stmt_text(stmt, i, &len);
        buf_put(out, text, len);
        break;
    case SCRIPT_TEXT:
        text = stmt_text(stmt, i, &len);
        buf_put_json_string(out, text, len);
        break;
    }
}

static void put_row(struct stmt *stmt, const struct script_table *table, struct buf *out)
{
    int at = 0;

    for (size_t i = 0; i < table->column_count; i++) {
        const struct script_column *column = &table->columns[i];

        if (!is_shown(column))
            continue;
        buf_puts(out, at ? ",\"" : "{\"");
        buf_puts(out, column->name);
        buf_puts(out, "\":");
        put_value(stmt, at++, column->type, out);
    }
    buf_putc(out, '}');
}

int current_user_put(struct reader *reader, const char *id, struct buf *out, struct err *err)
{
    const struct script_table *table = find_table();
    int rc = reader->user ? 0 : prepare(reader, table, err);

    if (rc < 0)
        return rc;
    stmt_bind_str(reader->user, 1, id);
    rc = stmt_step(reader->user, err);
    if (rc == 1) {
        put_row(reader->user, table, out);
        stmt_reset(reader->user);
    }
    return rc;
}
