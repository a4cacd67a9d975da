/* SPDX-License-Identifier: MIT */
#include "workos/mirror.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

enum { COLUMNS_MAX = 24, SQL_MAX = 16384 };

/*
 * A column's value is the member of the object that is called like the column. Three are special:
 * metadata is {} when the member is missing or null, role is the slug of the member, and raw is the
 * object itself, as it came.
 */
struct mirror_type {
    const char *prefix; /* of its events, with the dot */
    const char *object; /* data.object, when the event says so at all */
    const char *indexes;
    const char *indexed[3]; /* the columns that have one, but for id */
    const struct script_table *table;
};

/* https://workos.com/docs/reference/authkit/user; the members as in WORKOS.md section 3. */
static const struct script_column user_columns[] = {
    {"id", SCRIPT_TEXT},
    {"email", SCRIPT_TEXT},
    {"email_verified", SCRIPT_BOOLEAN},
    {"name", SCRIPT_TEXT},
    {"first_name", SCRIPT_TEXT},
    {"last_name", SCRIPT_TEXT},
    {"profile_picture_url", SCRIPT_TEXT},
    {"last_sign_in_at", SCRIPT_TEXT},
    {"external_id", SCRIPT_TEXT},
    {"locale", SCRIPT_TEXT},
    {"metadata", SCRIPT_JSON},
    {"created_at", SCRIPT_TEXT},
    {"updated_at", SCRIPT_TEXT},
    {"raw", SCRIPT_JSON},
};

/* The next three: workos/openapi-spec, schemas Organization, OrganizationMembership and Invitation. */
static const struct script_column organization_columns[] = {
    {"id", SCRIPT_TEXT},
    {"name", SCRIPT_TEXT},
    {"external_id", SCRIPT_TEXT},
    {"stripe_customer_id", SCRIPT_TEXT},
    {"allow_profiles_outside_organization", SCRIPT_BOOLEAN},
    {"domains", SCRIPT_JSON},
    {"metadata", SCRIPT_JSON},
    {"created_at", SCRIPT_TEXT},
    {"updated_at", SCRIPT_TEXT},
    {"raw", SCRIPT_JSON},
};
static const struct script_column membership_columns[] = {
    {"id", SCRIPT_TEXT},
    {"user_id", SCRIPT_TEXT},
    {"organization_id", SCRIPT_TEXT},
    {"role", SCRIPT_TEXT},
    {"roles", SCRIPT_JSON},
    {"status", SCRIPT_TEXT},
    {"directory_managed", SCRIPT_BOOLEAN},
    {"custom_attributes", SCRIPT_JSON},
    {"created_at", SCRIPT_TEXT},
    {"updated_at", SCRIPT_TEXT},
    {"raw", SCRIPT_JSON},
};
static const struct script_column invitation_columns[] = {
    {"id", SCRIPT_TEXT},
    {"email", SCRIPT_TEXT},
    {"state", SCRIPT_TEXT},
    {"organization_id", SCRIPT_TEXT},
    {"inviter_user_id", SCRIPT_TEXT},
    {"accepted_at", SCRIPT_TEXT},
    {"revoked_at", SCRIPT_TEXT},
    {"expires_at", SCRIPT_TEXT},
    {"created_at", SCRIPT_TEXT},
    {"updated_at", SCRIPT_TEXT},
    {"raw", SCRIPT_JSON},
};
static const struct script_table tables[] = {
    {"workos_users", user_columns, ARRAY_LEN(user_columns)},
    {"workos_organizations", organization_columns, ARRAY_LEN(organization_columns)},
    {"workos_organization_memberships", membership_columns, ARRAY_LEN(membership_columns)},
    {"workos_invitations", invitation_columns, ARRAY_LEN(invitation_columns)},
};

/* One row an object type, in the order of tables. */
static const struct mirror_type types[] = {
    {
        .prefix = "user.",
        .object = "user",
        .indexed = {"email", "external_id"},
        .table = &tables[0],
        .indexes = "CREATE INDEX IF NOT EXISTS workos_users_external_id"
                   " ON workos_users (external_id) WHERE external_id IS NOT NULL;"
                   "CREATE INDEX IF NOT EXISTS workos_users_email"
                   " ON workos_users (email COLLATE NOCASE);",
    },
    {
        .prefix = "organization.",
        .object = "organization",
        .indexed = {"external_id"},
        .table = &tables[1],
        .indexes = "CREATE INDEX IF NOT EXISTS workos_organizations_external_id"
                   " ON workos_organizations (external_id) WHERE external_id IS NOT NULL;",
    },
    {
        .prefix = "organization_membership.",
        .object = "organization_membership",
        .indexed = {"user_id", "organization_id"},
        .table = &tables[2],
        .indexes = "CREATE INDEX IF NOT EXISTS workos_organization_memberships_user_id"
                   " ON workos_organization_memberships (user_id);"
                   "CREATE INDEX IF NOT EXISTS workos_organization_memberships_organization_id"
                   " ON workos_organization_memberships (organization_id);",
    },
    {
        .prefix = "invitation.",
        .object = "invitation",
        .indexed = {"email", "organization_id"},
        .table = &tables[3],
        .indexes = "CREATE INDEX IF NOT EXISTS workos_invitations_email"
                   " ON workos_invitations (email COLLATE NOCASE);"
                   "CREATE INDEX IF NOT EXISTS workos_invitations_organization_id"
                   " ON workos_invitations (organization_id);",
    },
};

/* All that there are with these prefixes: WORKOS.md section 6. */
static const char event_types[] =
    "user.created,user.updated,user.deleted,"
    "organization.created,organization.updated,organization.deleted,"
    "organization_membership.created,organization_membership.updated,"
    "organization_membership.deleted,"
    "invitation.created,invitation.accepted,invitation.resent,invitation.revoked";

/* Found once: comparing names for each column of each event is dear. */
enum column_kind { COLUMN_PLAIN, COLUMN_METADATA, COLUMN_ROLE, COLUMN_RAW };

/*
 * The last id that has a tombstone: what comes behind it has none. That spares most looks, for WorkOS's
 * ids begin with the time, and a new user comes behind all who were deleted.
 */
struct last_buried {
    bool is_known;
    uint64_t mark; /* db_undo_mark, when it was found */
    bool is_long;  /* it has no room below: then everybody is looked for */
    size_t len;
    char id[64];
};

struct mirror {
    struct db *db;
    struct last_buried last_buried;
    struct {
        struct stmt *upsert, *refresh, *remove, *find;
        enum column_kind kinds[COLUMNS_MAX];
        size_t updated_at; /* the column */
    } types[ARRAY_LEN(types)];
    struct stmt *bury, *is_buried, *find_last_buried;
};

/* Spelled as in the scripts' own tables (lua/schema.lua), so that ctx.db.sql knows them again. */
static const char *sql_type(enum script_type type)
{
    return type == SCRIPT_BOOLEAN ? "BOOLEAN" : type == SCRIPT_JSON ? "JSON_TEXT" : "TEXT";
}

const char *mirror_event_types(void)
{
    return event_types;
}

const struct script_table *mirror_script_tables(size_t *out_count)
{
    *out_count = ARRAY_LEN(tables);
    return tables;
}

/*
 * Behind the object's own columns stand two of ours: _version_us, the instant of its updated_at,
 * and _event_id, of the event that brought this version. Together they are what "later" means.
 */
static void write_create(const struct mirror_type *type, struct buf *sql)
{
    buf_printf(sql, "CREATE TABLE IF NOT EXISTS %s (", type->table->name);
    for (size_t i = 0; i < type->table->column_count; i++)
        buf_printf(sql, "%s %s%s, ", type->table->columns[i].name,
                   sql_type(type->table->columns[i].type), i == 0 ? " NOT NULL PRIMARY KEY" : "");
    buf_puts(sql, "_version_us INTEGER NOT NULL, _event_id TEXT NOT NULL);");
    buf_puts(sql, type->indexes);
}

int mirror_create_tables(struct db *db, struct err *err)
{
    struct buf sql = BUF_INIT(SQL_MAX);
    int rc;

    buf_puts(&sql, "CREATE TABLE IF NOT EXISTS authkitd_tombstones ("
                   "id TEXT NOT NULL, object TEXT NOT NULL, deleted_at INTEGER NOT NULL,"
                   " PRIMARY KEY (id, object)) WITHOUT ROWID;");
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        write_create(&types[i], &sql);
    rc = buf_ok(&sql) ? db_exec(db, buf_text(&sql), err)
                      : err_set(err, ERR_NOMEM, "no memory for the tables");
    buf_release(&sql);
    return rc;
}

static void write_upsert(const struct mirror_type *type, struct buf *sql)
{
    const struct script_column *columns = type->table->columns;
    size_t count = type->table->column_count;

    buf_printf(sql, "INSERT INTO %s (", type->table->name);
    for (size_t i = 0; i < count; i++)
        buf_printf(sql, "%s, ", columns[i].name);
    buf_puts(sql, "_version_us, _event_id) VALUES (");
    for (size_t i = 0; i < count; i++)
        buf_puts(sql, "?, ");
    buf_puts(sql, "?, ?) ON CONFLICT (id) DO UPDATE SET ");
    for (size_t i = 1; i < count; i++)
        buf_printf(sql, "%s = excluded.%s, ", columns[i].name, columns[i].name);
    buf_puts(sql, "_version_us = excluded._version_us, _event_id = excluded._event_id"
                  " WHERE (excluded._version_us, excluded._event_id) > (_version_us, _event_id)");
}

static bool has_index(const struct mirror_type *type, const char *column)
{
    for (size_t i = 0; i < ARRAY_LEN(type->indexed) && type->indexed[i]; i++)
        if (strcmp(type->indexed[i], column) == 0)
            return true;
    return false;
}

/*
 * The upsert's later half, with its parameters, for an object that is there and whose indexed
 * columns stay as they are: most updates are that. SQLite takes an entry out of an index and puts it
 * back in for every column that is set, the same value or not; among millions of users each is a
 * page of its own to be written.
 */
static void write_refresh(const struct mirror_type *type, struct buf *sql)
{
    const struct script_column *columns = type->table->columns;
    size_t count = type->table->column_count;

    buf_printf(sql, "UPDATE %s SET ", type->table->name);
    for (size_t i = 1; i < count; i++)
        if (!has_index(type, columns[i].name))
            buf_printf(sql, "%s = ?%zu, ", columns[i].name, i + 1);
    buf_printf(sql,
               "_version_us = ?%zu, _event_id = ?%zu WHERE id = ?1"
               " AND (?%zu, ?%zu) > (_version_us, _event_id)",
               count + 1, count + 2, count + 1, count + 2);
    for (size_t i = 1; i < count; i++)
        if (has_index(type, columns[i].name))
            buf_printf(sql, " AND %s IS ?%zu", columns[i].name, i + 1);
}

static enum column_kind kind_of(const char *name)
{
    static const char *const names[] = {
        [COLUMN_METADATA] = "metadata", [COLUMN_ROLE] = "role", [COLUMN_RAW] = "raw"};

    for (size_t i = COLUMN_METADATA; i < ARRAY_LEN(names); i++)
        if (strcmp(name, names[i]) == 0)
            return (enum column_kind)i;
    return COLUMN_PLAIN;
}

static void find_kinds(struct mirror *mirror, size_t type)
{
    const struct script_table *table = types[type].table;

    for (size_t i = 0; i < table->column_count; i++) {
        mirror->types[type].kinds[i] = kind_of(table->columns[i].name);
        if (strcmp(table->columns[i].name, "updated_at") == 0)
            mirror->types[type].updated_at = i;
    }
}

static int prepare_type(struct mirror *mirror, size_t i, struct db *db, struct err *err)
{
    struct buf sql = BUF_INIT(SQL_MAX);
    int rc;

    write_upsert(&types[i], &sql);
    rc = stmt_new(&mirror->types[i].upsert, db, buf_text(&sql), err);
    buf_reset(&sql);
    write_refresh(&types[i], &sql);
    if (rc == 0)
        rc = stmt_new(&mirror->types[i].refresh, db, buf_text(&sql), err);
    buf_reset(&sql);
    buf_printf(&sql, "DELETE FROM %s WHERE id = ?", types[i].table->name);
    if (rc == 0)
        rc = stmt_new(&mirror->types[i].remove, db, buf_text(&sql), err);
    buf_reset(&sql);
    buf_printf(&sql, "SELECT 1 FROM %s WHERE id = ?", types[i].table->name);
    if (rc == 0)
        rc = stmt_new(&mirror->types[i].find, db, buf_text(&sql), err);
    buf_release(&sql);
    return rc;
}

int mirror_prepare(struct mirror **out, struct db *db, struct err *err)
{
    struct mirror *mirror = calloc(1, sizeof(*mirror));
    int rc;

    if (!mirror)
        return err_set(err, ERR_NOMEM, "no memory for the mirror");
    mirror->db = db;
    rc = stmt_new(&mirror->bury, db,
                  "INSERT OR IGNORE INTO authkitd_tombstones (id, object, deleted_at)"
                  " VALUES (?, ?, ?)",
                  err);
    if (rc == 0)
        rc = stmt_new(&mirror->is_buried, db,
                      "SELECT 1 FROM authkitd_tombstones WHERE id = ? AND object = ?", err);
    if (rc == 0)
        rc =
            stmt_new(&mirror->find_last_buried, db, "SELECT max(id) FROM authkitd_tombstones", err);
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(types); i++) {
        find_kinds(mirror, i);
        rc = prepare_type(mirror, i, db, err);
    }
    if (rc < 0) {
        mirror_release(mirror);
        return rc;
    }
    *out = mirror;
    return 0;
}

void mirror_release(struct mirror *mirror)
{
    if (!mirror)
        return;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        stmt_free(mirror->types[i].upsert);
        stmt_free(mirror->types[i].refresh);
        stmt_free(mirror->types[i].remove);
        stmt_free(mirror->types[i].find);
    }
    stmt_free(mirror->bury);
    stmt_free(mirror->is_buried);
    stmt_free(mirror->find_last_buried);
    free(mirror);
}

static int remove_object(struct mirror *mirror, size_t type, struct event_text id, struct err *err)
{
    struct stmt *remove = mirror->types[type].remove;
    int rc;

    stmt_bind_text(mirror->bury, 1, id.at, id.len);
    stmt_bind_str(mirror->bury, 2, types[type].object);
    stmt_bind_int(mirror->bury, 3, clock_wall_ms());
    mirror->last_buried.is_known = false;
    rc = stmt_run(mirror->bury, err);
    if (rc < 0)
        return rc;
    stmt_bind_text(remove, 1, id.at, id.len);
    return stmt_run(remove, err);
}

/* Has the statement a row? Its parameters are bound. */
static int has_row(struct stmt *stmt, bool *out, struct err *err)
{
    int rc = stmt_step(stmt, err);

    if (rc < 0)
        return rc;
    *out = rc == 1;
    stmt_reset(stmt);
    return 0;
}

static int find_last_buried(struct mirror *mirror, struct err *err)
{
    struct last_buried *last = &mirror->last_buried;
    const char *id;
    int rc;

    if (last->is_known && last->mark == db_undo_mark(mirror->db))
        return 0;
    rc = stmt_step(mirror->find_last_buried, err);
    if (rc < 0)
        return rc;
    id = stmt_text(mirror->find_last_buried, 0, &last->len); /* NULL and 0 when there is none */
    last->is_long = last->len > sizeof(last->id);
    if (id && !last->is_long)
        memcpy(last->id, id, last->len);
    stmt_reset(mirror->find_last_buried);
    last->mark = db_undo_mark(mirror->db);
    last->is_known = true;
    return 0;
}

/* In SQLite's order, which is that of the bytes. */
static bool is_behind(struct event_text id, const struct last_buried *last)
{
    size_t len = id.len < last->len ? id.len : last->len;
    int order = last->is_long ? -1 : memcmp(id.at, last->id, len);

    return order > 0 || (order == 0 && id.len > last->len);
}

int mirror_is_deleted(struct mirror *mirror, const char *object, struct event_text id, bool *out,
                      struct err *err)
{
    int rc = find_last_buried(mirror, err);

    *out = false;
    if (rc < 0 || is_behind(id, &mirror->last_buried))
        return rc;
    stmt_bind_text(mirror->is_buried, 1, id.at, id.len);
    stmt_bind_str(mirror->is_buried, 2, object);
    return has_row(mirror->is_buried, out, err);
}

static void bind_raw(struct stmt *stmt, int parameter, const struct event *event, uint32_t value)
{
    size_t len;
    const char *raw = json_raw(&event->json, value, &len);

    stmt_bind_text(stmt, parameter, raw, len);
}

/* Bind one column's value; data that doesn't fit its type is NULL. */
static void bind_column(struct stmt *stmt, int parameter, struct event *event, uint32_t value,
                        enum script_type type, enum column_kind kind)
{
    enum json_type found = value ? event->json.nodes[value].type : JSON_NULL;
    struct event_text text;

    if (found == JSON_OBJECT && kind == COLUMN_ROLE) {
        value = json_string_member(&event->json, value, "slug");
        found = value ? JSON_STRING : JSON_NULL;
    }
    if (kind == COLUMN_RAW) {
        bind_raw(stmt, parameter, event, event->data);
    } else if (type == SCRIPT_JSON && found != JSON_NULL) {
        bind_raw(stmt, parameter, event, value);
    } else if (kind == COLUMN_METADATA) {
        stmt_bind_text(stmt, parameter, "{}", 2);
    } else if (type == SCRIPT_BOOLEAN && (found == JSON_TRUE || found == JSON_FALSE)) {
        stmt_bind_int(stmt, parameter, found == JSON_TRUE);
    } else if (type == SCRIPT_TEXT && found == JSON_STRING) {
        text = event_string(event, value);
        stmt_bind_text(stmt, parameter, text.at, text.len);
    } else {
        stmt_bind_null(stmt, parameter);
    }
}

/*
 * The members' values by column, and behind them that of "object", looking at each member once; the last
 * one of a name counts. WorkOS writes "object" first and then the others in the columns' order, so each
 * is looked for from behind the one before it.
 */
static void find_members(const struct event *event, const struct script_table *table,
                         uint32_t values[COLUMNS_MAX])
{
    const struct json_node *nodes = event->json.nodes;
    size_t object = table->column_count, column = object;

    for (size_t i = 0; i <= object; i++)
        values[i] = JSON_ABSENT;
    for (uint32_t key = event->data + 1; key < nodes[event->data].next; key = nodes[key + 1].next) {
        for (size_t i = 0; i <= object; i++) {
            const char *name = column == object ? "object" : table->columns[column].name;
            bool same = json_equals(&event->json, key, name);

            if (same)
                values[column] = key + 1;
            column = column < object ? column + 1 : 0;
            if (same)
                break;
        }
    }
}

/* What "later" is measured by: the object's updated_at, or when the event was made. */
static int64_t version_us(struct event *event, uint32_t updated_at)
{
    struct event_text text = event_string(event, updated_at);
    int64_t us;

    if (text.at && clock_parse_us(text.at, text.len, &us))
        return us;
    return event->created_us;
}

/* The object's columns and its version, as both statements have them. */
static int put_version(struct mirror *mirror, size_t type, struct stmt *stmt, struct event *event,
                       const uint32_t values[COLUMNS_MAX], struct err *err)
{
    const struct script_table *table = types[type].table;
    int count = (int)table->column_count;

    for (int i = 0; i < count; i++)
        bind_column(stmt, i + 1, event, values[i], table->columns[i].type,
                    mirror->types[type].kinds[i]);
    stmt_bind_int(stmt, count + 1, version_us(event, values[mirror->types[type].updated_at]));
    stmt_bind_str(stmt, count + 2, event->id);
    return stmt_run(stmt, err);
}

/* An update of an object that is there, which is most of them; out_done: it was. What was deleted isn't
 * there (remove_object), so nothing need be asked of it. */
static int refresh_object(struct mirror *mirror, size_t type, struct event *event,
                          const uint32_t values[COLUMNS_MAX], bool *out_done, struct err *err)
{
    int64_t before = db_total_changes(mirror->db);
    int rc = put_version(mirror, type, mirror->types[type].refresh, event, values, err);

    *out_done = db_total_changes(mirror->db) != before;
    return rc;
}

static int put_object(struct mirror *mirror, size_t type, struct event *event,
                      const uint32_t values[COLUMNS_MAX], enum mirror_found *out, struct err *err)
{
    bool done = false, buried = false;
    int rc = 0;

    if (text_ends_with(event->type, ".updated"))
        rc = refresh_object(mirror, type, event, values, &done, err);
    if (rc == 0 && !done)
        rc = mirror_is_deleted(mirror, types[type].object, event->object_id, &buried, err);
    *out = buried ? MIRROR_DELETED : MIRROR_PRESENT;
    if (rc < 0 || done || buried)
        return rc;
    return put_version(mirror, type, mirror->types[type].upsert, event, values, err);
}

/* An event with the prefix may carry another object, some day; then it says so. */
static bool carries(const struct event *event, const char *object, uint32_t value)
{
    return value == JSON_ABSENT || event->json.nodes[value].type != JSON_STRING ||
           json_equals(&event->json, value, object);
}

/* The type that the event's object belongs to, or ARRAY_LEN(types). values: of its members. */
static size_t find_type(const struct event *event, uint32_t values[COLUMNS_MAX])
{
    size_t i = 0;

    if (!event->object_id.at || event->object_id.len == 0)
        return ARRAY_LEN(types);
    while (i < ARRAY_LEN(types) && !text_starts_with(event->type, types[i].prefix))
        i++;
    if (i == ARRAY_LEN(types))
        return i;
    find_members(event, types[i].table, values);
    return carries(event, types[i].object, values[types[i].table->column_count]) ? i
                                                                                 : ARRAY_LEN(types);
}

int mirror_apply(struct mirror *mirror, struct event *event, enum mirror_found *out,
                 struct err *err)
{
    uint32_t values[COLUMNS_MAX];
    size_t i = find_type(event, values);
    enum mirror_found found = MIRROR_FOREIGN;
    int rc = 0;

    if (i < ARRAY_LEN(types) && strcmp(event->type + strlen(types[i].prefix), "deleted") == 0) {
        rc = remove_object(mirror, i, event->object_id, err);
        found = MIRROR_DELETED;
    } else if (i < ARRAY_LEN(types)) {
        rc = put_object(mirror, i, event, values, &found, err);
    }
    if (out)
        *out = found;
    return rc;
}

int mirror_find(struct mirror *mirror, struct event *event, enum mirror_found *out, struct err *err)
{
    uint32_t values[COLUMNS_MAX];
    size_t i = find_type(event, values);
    bool found;
    int rc;

    *out = MIRROR_FOREIGN;
    if (i == ARRAY_LEN(types))
        return 0;
    rc = mirror_is_deleted(mirror, types[i].object, event->object_id, &found, err);
    if (rc < 0)
        return rc;
    *out = found ? MIRROR_DELETED : MIRROR_ABSENT;
    if (found)
        return 0;
    stmt_bind_text(mirror->types[i].find, 1, event->object_id.at, event->object_id.len);
    rc = has_row(mirror->types[i].find, &found, err);
    if (rc == 0 && found)
        *out = MIRROR_PRESENT;
    return rc;
}
