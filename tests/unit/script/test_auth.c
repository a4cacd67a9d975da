/* SPDX-License-Identifier: MIT */
/* ctx.auth: whose token came with a request, and what that allows. */
#include "asking.h"

#define TEXT "200 text/plain; charset=utf-8||"
#define JSON "200 application/json||"
#define REFUSED(status, headers, code, message)                                    \
    "refused " status " application/json|" headers "|{\"error\":{\"code\":\"" code \
    "\",\"message\":\"" message "\"}}"
#define NO_TOKEN                                                    \
    REFUSED("401", "WWW-Authenticate: Bearer\r\n", "token_missing", \
            "the Authorization header is missing")

static const char ada[] = "{\"sub\":\"user_1\",\"org_id\":\"org_1\",\"role\":\"admin\","
                          "\"roles\":[\"member\",5,\"bill\\u0065r\"],\"n\":5,"
                          "\"permissions\":[\"todos:read\",\"todos:write\"]}";

static struct asking a;

static int open_asking(void **state)
{
    int rc = enter_temp_dir(state);

    if (rc == 0)
        asking_open(&a);
    return rc;
}

static int close_asking(void **state)
{
    asking_close(&a);
    return leave_temp_dir(state);
}

#define WITH_ASKING(test) cmocka_unit_test_setup_teardown(test, open_asking, close_asking)

static void answers(const char *body, const char *wanted)
{
    const char *told = asking_once(&a, body);

    if (strcmp(told, wanted) != 0)
        fail_msg("%s\n  %s (%s)\n  instead of %s", body, told, a.b.err.text, wanted);
}

static void auth__nobody(void **state)
{
    (void)state;
    answers("assert(ctx.auth.user() == nil and ctx.auth.organization() == nil)\n"
            "assert(ctx.auth.claims == nil and ctx.auth.user_id == nil)\n"
            "return 'ok'",
            TEXT "ok");
    answers("ctx.auth.require() return 'ok'", NO_TOKEN);
    answers("ctx.auth.require_role('admin') return 'ok'", NO_TOKEN);
    answers("ctx.auth.require_permission('todos:read') return 'ok'", NO_TOKEN);
    bench_says(&a.b, ERR_SCRIPT, "401 token_missing: the Authorization header is missing");
}

static void auth__somebody(void **state)
{
    (void)state;
    asking_as(&a, ada);
    answers("local user = ctx.auth.user()\n"
            "assert(user.id == 'user_1' and user.email == 'ada@x.com')\n"
            "assert(ctx.auth.require().id == 'user_1' and ctx.auth.user_id == 'user_1')\n"
            "assert(ctx.auth.organization().name == 'Analytical Engines')\n"
            "local claims = ctx.auth.claims\n"
            "assert(claims.n == 5 and #claims.roles == 3 and claims.sub == 'user_1')\n"
            "claims.mine = 1\n"
            "assert(rawequal(claims, ctx.auth.claims) and ctx.auth.claims.mine == 1)\n"
            "assert(ctx.auth.nothing == nil and ctx.auth[1] == nil)\n"
            "assert(not pcall(function() ctx.auth.claims = {} end))\n"
            "return 'ok'",
            TEXT "ok");
    answers("return ctx.auth.require_role('nobody', 'admin').id", TEXT "user_1");
    answers("return ctx.auth.require_role('member').id", TEXT "user_1");
    answers("return ctx.auth.require_role('biller').id", TEXT "user_1");
    answers("return ctx.auth.require_permission('todos:read', 'todos:write').id", TEXT "user_1");
}

static void auth__claims_are_of_one_call_only(void **state)
{
    (void)state;
    asking_route(&a, "GET /",
                 "if ctx.auth.claims then ctx.auth.claims.mine = 1 kept = "
                 "ctx.auth.claims end\n"
                 "return { ctx.auth.claims and ctx.auth.claims.sub or 'nobody' }");
    asking_as(&a, ada);
    assert_string_equal(asking_for(&a, "GET /"), JSON "[\"user_1\"]");
    asking_as(&a, "{\"sub\":\"user_2\"}");
    assert_string_equal(asking_for(&a, "GET /"), JSON "[\"user_2\"]");
    asking_as(&a, NULL);
    assert_string_equal(asking_for(&a, "GET /"), JSON "[\"nobody\"]");
}

static void auth__what_is_missing_is_answered(void **state)
{
    (void)state;
    asking_as(&a, ada);
    answers("return ctx.auth.require_role('nobody')",
            REFUSED("403", "", "role_required", "the role of this user doesn't allow that"));
    answers("return ctx.auth.require_role('todos:read', 'adm', '5', 'admin\\0')",
            REFUSED("403", "", "role_required", "the role of this user doesn't allow that"));
    answers(
        "return ctx.auth.require_permission('todos:read', 'todos:delete')",
        REFUSED("403", "", "permission_required", "the permissions of this user don't allow that"));
    asking_as(&a, "{\"sub\":\"user_1\"}");
    answers("return ctx.auth.require_role('admin')",
            REFUSED("403", "", "role_required", "the role of this user doesn't allow that"));
    answers(
        "return ctx.auth.require_permission('todos:read')",
        REFUSED("403", "", "permission_required", "the permissions of this user don't allow that"));
    answers("return ctx.auth.organization()", JSON "null");
    asking_as(&a, "{\"sub\":\"user_2\",\"org_id\":5,\"role\":\"admin\"}");
    answers("assert(ctx.auth.user() == nil and ctx.auth.organization() == nil)\n"
            "assert(ctx.auth.user_id == 'user_2' and ctx.auth.claims)\n"
            "return ctx.auth.require_role('admin')",
            REFUSED("401", "WWW-Authenticate: Bearer error=\"invalid_token\"\r\n", "user_not_found",
                    "the token is good, but its user isn't here"));
}

static void auth__reasons_of_the_caller_are_passed_on(void **state)
{
    (void)state;
    a.caller = (struct script_caller){
        .status = 401, .code = "token_expired", .message = "the token has expired"};
    answers("ctx.auth.require()",
            REFUSED("401", "WWW-Authenticate: Bearer error=\"invalid_token\"\r\n", "token_expired",
                    "the token has expired"));
    a.caller = (struct script_caller){
        .status = 503, .code = "keys_unavailable", .message = "no keys \"yet\""};
    answers("ctx.auth.require()",
            REFUSED("503", "Retry-After: 1\r\n", "keys_unavailable", "no keys \\\"yet\\\""));
}

static void auth__names_are_checked(void **state)
{
    (void)state;
    asking_as(&a, ada);
    asking_raises(&a, "ctx.auth.require_role()", "ctx.auth.require_role wants names, such as");
    asking_raises(&a, "ctx.auth.require_role({ 'admin' })", "not a table");
    asking_raises(&a, "ctx.auth:require_role('admin')", "with a dot: ctx.auth.require_role(…)");
    asking_raises(&a, "return ctx.auth:require_permission('x')",
                  "call it with a dot: ctx.auth.require_permission(…)");
    asking_raises(&a, "ctx.auth.require_permission('a', nil)", "not nil");
    asking_raises(&a, "ctx.auth.require_permission(nil, 'a')",
                  "handlers.lua:3: ctx.auth.require_p");
}

/* What was changed in the table of the claims doesn't count. */
static void auth__claims_that_were_changed_allow_nothing(void **state)
{
    (void)state;
    asking_as(&a, "{\"sub\":\"user_1\",\"role\":\"member\"}");
    answers("ctx.auth.claims.role = 'admin'\nreturn ctx.auth.require_role('admin')",
            REFUSED("403", "", "role_required", "the role of this user doesn't allow that"));
}

static void auth__is_for_routes(void **state)
{
    static const struct raising cases[] = {
        {"ctx.auth.require()",
         "ctx.auth is for routes: nobody has signed in for an event or an action"},
        {"ctx.auth.user()", "ctx.auth is for routes"},
        {"ctx.auth.organization()", "ctx.auth is for routes"},
        {"ctx.auth.require_role('x')", "ctx.auth is for routes"},
        {"ctx.auth.require_permission('x')", "ctx.auth is for routes"},
        {"local _ = ctx.auth.claims", "ctx.auth is for routes"},
        {"local _ = ctx.auth.user_id", "ctx.auth is for routes"},
        {"ctx.auth.x = 1", "ctx.auth is read-only"},
    };

    (void)state;
    bench_all_raise("", cases, ARRAY_LEN(cases));
}

/* ------------------------------------------------------------------------- refusals as errors */

static void refusal__passes_as_any_error(void **state)
{
    (void)state;
    answers("local ok, problem = pcall(ctx.auth.require)\n"
            "assert(not ok and type(problem) == 'userdata' and getmetatable(problem) == false)\n"
            "assert(not pcall(function() problem.status = 200 end))\n"
            "assert(not pcall(function() return problem.status end))\n"
            "return tostring(problem)",
            TEXT "401 token_missing: the Authorization header is missing");
    answers("local ok, problem = pcall(ctx.auth.require)\nerror(problem)", NO_TOKEN);
    answers("local ok, problem = pcall(ctx.auth.require)\nerror(problem, 0)", NO_TOKEN);
    answers("coroutine.wrap(function() ctx.auth.require() end)()", NO_TOKEN);
    answers("('x'):gsub('x', function() ctx.auth.require() end)", NO_TOKEN);
    answers("xpcall(ctx.auth.require, function(problem) caught = problem end)\nerror(caught)",
            NO_TOKEN);
    answers("local _ <close> = setmetatable({}, { __close = function() end })\nctx.auth.require()",
            NO_TOKEN);
    answers("for _ in ctx.auth.require do end", NO_TOKEN);
    answers("local ok, problem = pcall(ctx.auth.require)\nreturn ok", JSON "false");
}

static void refusal__can_not_be_forged(void **state)
{
    static const struct raising cases[] = {
        {"error({ status = 401, code = 'x', message = 'y' })", "the error is a table"},
        {"error(setmetatable({}, { __name = 'authkitd.refusal' }))", "the error is a table"},
        {"error('401 token_missing: x')", "401 token_missing"},
        {"error(authkit.null)", "the error is a userdata"},
        {"local ok, problem = pcall(ctx.auth.require)\nerror(problem .. '')", "concatenate"},
        {"local ok, problem = pcall(ctx.auth.require)\nsetmetatable(problem, {})",
         "table expected"},
        {"local ok, problem = pcall(ctx.auth.require)\nreturn problem",
         "the answer: a userdata can't be JSON"},
        /* The last error counts, not one before it. */
        {"local _ <close> = setmetatable({}, { __close = function() error('closing') end })\n"
         "ctx.auth.require()",
         "closing"},
        {"local ok, problem = pcall(ctx.auth.require)\nerror(tostring(problem))", "token_missing"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        asking_raises(&a, cases[i].body, cases[i].wanted);
}

/* One that was kept is the same answer in another route, and a mere error anywhere else. */
static void refusal__kept_one_is_harmless(void **state)
{
    (void)state;
    asking_load(&a,
                "authkit.routes {\n"
                "  ['GET /keep'] = function(ctx) kept = select(2, pcall(ctx.auth.require)) end,\n"
                "  ['GET /use'] = function() error(kept) end }\n"
                "authkit.events { t = function() error(kept) end }");
    assert_string_equal(asking_for(&a, "GET /keep"), "204 -||");
    asking_as(&a, ada);
    assert_string_equal(asking_for(&a, "GET /use"), NO_TOKEN);
    bench_run(&a.b);
    bench_says(&a.b, ERR_SCRIPT, "401 token_missing: the Authorization header is missing");
}

/* What was written before it is the caller's to undo: the transaction is still there. */
static void refusal__leaves_the_transaction_to_the_caller(void **state)
{
    (void)state;
    asking_load(&a, "authkit.schema { notes = { columns = { text = 'text' } } }\n"
                    "authkit.routes { ['POST /'] = function(ctx)\n"
                    "  ctx.db.insert('notes', { text = 'x' }) ctx.auth.require() end }");
    assert_string_equal(asking_for(&a, "POST /"), NO_TOKEN);
    assert_string_equal(bench_value(&a.b, "SELECT count(*) FROM notes"), "0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ASKING(auth__nobody),
        WITH_ASKING(auth__somebody),
        WITH_ASKING(auth__claims_are_of_one_call_only),
        WITH_ASKING(auth__what_is_missing_is_answered),
        WITH_ASKING(auth__reasons_of_the_caller_are_passed_on),
        WITH_ASKING(auth__names_are_checked),
        WITH_ASKING(auth__claims_that_were_changed_allow_nothing),
        IN_TEMP_DIR(auth__is_for_routes),
        WITH_ASKING(refusal__passes_as_any_error),
        WITH_ASKING(refusal__can_not_be_forged),
        WITH_ASKING(refusal__kept_one_is_harmless),
        WITH_ASKING(refusal__leaves_the_transaction_to_the_caller),
    };

    return cmocka_run_group_tests_name("auth", tests, NULL, NULL);
}
