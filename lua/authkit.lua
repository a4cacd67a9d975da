-- The module that scripts get from require "authkit": it takes their declarations and keeps them
-- for the C side. Loading a script has no other effect.

local native, read_only, db = ...

local registered = { events = {}, actions = {}, routes = {}, schema = {} }
local raise = native.raise
local known_actions = { authentication = true, user_registration = true }

local loaded = false -- declaring is over then

local function check_table(value, name, example)
   if loaded then
      raise(("authkit.%s belongs to the top of the script: a function that runs can't declare anything"):format(name))
   end
   native.check_dot(value)
   if type(value) ~= "table" then
      raise(("authkit.%s wants a table, such as authkit.%s %s, not %s")
         :format(name, name, example, native.kind(value)))
   end
end

-- check(name) raises when the name won't do. `next`, not pairs: a table's own __pairs could say
-- one thing now and another a moment later.
local function register(kind, functions, what, check)
   for name, fn in next, functions do
      check(name)
      if type(fn) ~= "function" then
         raise(("authkit.%s: %s '%s' wants a function, not %s"):format(kind, what, name, native.kind(fn)))
      end
      if registered[kind][name] then
         raise(("authkit.%s: '%s' is registered twice"):format(kind, name))
      end
      registered[kind][name] = fn
   end
end

local authkit = {}

local function check_event(name)
   if type(name) ~= "string" or not name:find("^[a-z0-9_]+[a-z0-9_.]*$") then
      raise(("authkit.events: '%s' isn't an event type of WorkOS; they look like \"user.created\"")
         :format(tostring(name)))
   end
end

function authkit.events(functions)
   check_table(functions, "events", '{ ["user.created"] = function(ctx, event) … end }')
   register("events", functions, "event", check_event)
end

local function check_action(name)
   if type(name) ~= "string" or not known_actions[name] then
      raise(("authkit.actions: there is no action '%s'; WorkOS has authentication and user_registration")
         :format(tostring(name)))
   end
end

function authkit.actions(functions)
   check_table(functions, "actions", "{ user_registration = function(ctx, action, response) … end }")
   register("actions", functions, "action", check_action)
end

local shapes = {} -- "GET /todos/:" -> the route that has it

-- Two routes that differ in nothing but the names of their parameters take the same requests.
local function check_route(name)
   if type(name) ~= "string" then
      raise(("authkit.routes: '%s' isn't a route; they look like \"GET /todos\""):format(tostring(name)))
   end
   local shape = native.route(name)
   local other = shapes[shape]
   if other and other ~= name then
      raise(("authkit.routes: '%s' and '%s' take the same requests; only one of them can be there")
         :format(other, name))
   end
   shapes[shape] = name
end

function authkit.routes(functions)
   check_table(functions, "routes", '{ ["GET /todos"] = function(ctx, request) … end }')
   register("routes", functions, "route", check_route)
end

function authkit.schema(tables)
   check_table(tables, "schema", '{ todo_lists = { columns = { name = "text" } } }')
   db.declare(tables)
end

authkit.null = native.null
authkit.json = read_only("authkit.json", {
   encode = native.json_encode,
   decode = native.json_decode,
   array = native.json_array,
})

-- The response object of actions. A verdict can't be made any other way: the C side looks for
-- these very tables.
local allow = read_only("a verdict", {})
local denials = setmetatable({}, { __mode = "k" }) -- denial -> its message, or false

local response = read_only("response", {
   allow = function()
      return allow
   end,
   deny = function(message)
      if message ~= nil and type(message) ~= "string" then
         native.check_dot(message)
         raise("response.deny wants a text to show to the user, not " .. native.kind(message))
      end
      local denial = read_only("a verdict", {})
      denials[denial] = message or false
      return denial
   end,
})

-- Runs an action's function. Returns "allow", or "deny" and the message or nil.
local function decide(fn, ctx, action)
   local verdict = fn(ctx, action, response)
   if rawequal(verdict, allow) then
      return "allow"
   end
   local message = verdict ~= nil and denials[verdict]
   if verdict == nil or message == nil then
      error(("%sthe action's function returned %s: it must return response.allow() or response.deny(message)")
         :format(native.defined_at(fn), verdict == nil and "nothing" or "a " .. type(verdict)), 0)
   end
   return "deny", message or nil
end

-- ctx.auth: who calls a route. What it refuses is answered by itself: native.refuse ends the
-- function, as an error that no script can make.
local auth = {}

function auth.user()
   local id = native.user_id()
   return id and db.find("workos_users", id)
end

function auth.organization()
   local id = native.claim("org_id")
   return id and db.find("workos_organizations", id)
end

function auth.require()
   native.check_caller()
   local user = auth.user()
   if not user then
      native.refuse(401, "user_not_found", "the token is good, but its user isn't here")
   end
   return user
end

local require_caller = auth.require

local function check_names(called, ...)
   local names = table.pack(...)
   for i = 1, math.max(names.n, 1) do
      if type(names[i]) ~= "string" then
         native.check_dot(names[i])
         raise(("ctx.auth.%s wants names, such as ctx.auth.%s(\"admin\"), not %s")
            :format(called, called, native.kind(names[i])))
      end
   end
   return names
end

function auth.require_role(...)
   local names = check_names("require_role", ...)
   local user = require_caller()
   for _, name in ipairs(names) do
      if native.claim_has("role", name) or native.claim_has("roles", name) then
         return user
      end
   end
   native.refuse(403, "role_required", "the role of this user doesn't allow that")
end

function auth.require_permission(...)
   local names = check_names("require_permission", ...)
   local user = require_caller()
   for _, name in ipairs(names) do
      if not native.claim_has("permissions", name) then
         native.refuse(403, "permission_required", "the permissions of this user don't allow that")
      end
   end
   return user
end

-- What is no function differs from call to call.
setmetatable(auth, {
   __index = function(_, name)
      if name == "claims" then
         return native.claims()
      elseif name == "user_id" then
         return native.user_id()
      end
   end,
})

local ctx = read_only("ctx", {
   auth = read_only("ctx.auth", auth),
   db = db.db,
   users = db.users,
   log = read_only("ctx.log", native.log),
   now = native.now,
})

return {
   authkit = read_only("authkit", authkit),
   registered = registered,
   decide = decide,
   ctx = ctx,
   finish = function()
      loaded = true
   end,
}
