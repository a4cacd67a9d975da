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
   if type(value) ~= "table" then
      raise(("authkit.%s wants a table, such as authkit.%s %s, not a %s")
         :format(name, name, example, type(value)))
   end
end

-- check(name) raises when the name won't do. `next`, not pairs: a table's own __pairs could say
-- one thing now and another a moment later.
local function register(kind, functions, what, check)
   for name, fn in next, functions do
      check(name)
      if type(fn) ~= "function" then
         raise(("authkit.%s: %s '%s' wants a function, not a %s"):format(kind, what, name, type(fn)))
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

local function check_route(name)
   if type(name) ~= "string" or not name:find("^[A-Z]+ /") then
      raise(("authkit.routes: '%s' isn't a route; they look like \"GET /todos\""):format(tostring(name)))
   end
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
         raise("response.deny wants a text to show to the user, not a " .. type(message))
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
      error(("the action's function returned %s: it must return response.allow() or response.deny(message)")
         :format(verdict == nil and "nothing" or "a " .. type(verdict)), 0)
   end
   return "deny", message or nil
end

local ctx = read_only("ctx", { db = db.db, users = db.users, log = read_only("ctx.log", native.log), now = native.now })

return {
   authkit = read_only("authkit", authkit),
   registered = registered,
   decide = decide,
   ctx = ctx,
   finish = function()
      loaded = true
   end,
}
