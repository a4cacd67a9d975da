-- What authkitd does for the example app (app.js): every user has a todo list from the moment that
-- WorkOS tells of them, and the page reads and changes it through the routes below.

local authkit = require "authkit"

authkit.schema {
   todo_lists = {
      columns = { name = "text", user_id = "text" },
      indexes = { { "user_id", unique = true } },
   },
   todos = {
      columns = { list_id = "integer", text = "text", done = "boolean" },
      indexes = { { "list_id" } },
   },
}

local function list_of(ctx, user_id)
   return ctx.db.query("todo_lists"):where("user_id", user_id):unique()
end

local function todos_of(ctx, list)
   return ctx.db.query("todos"):where("list_id", list._id):order_by("_id")
end

authkit.events {
   ["user.created"] = function(ctx, event)
      ctx.db.insert("todo_lists", {
         name = event.data.first_name and event.data.first_name .. "'s Todo List" or "My Todo List",
         user_id = event.data.id,
      })
   end,

   ["user.deleted"] = function(ctx, event)
      local list = list_of(ctx, event.data.id)
      if not list then
         return
      end
      for todo in todos_of(ctx, list):each() do
         ctx.db.delete("todos", todo._id)
      end
      ctx.db.delete("todo_lists", list._id)
   end,
}

-- Errors look like the server's own, so that the page has one way to read them.
local function refuse(status, code, message)
   return status, { error = { code = code, message = message } }
end

-- The list comes with the webhook user.created: who signs up and is very quick may be here first.
local function no_list_yet()
   return refuse(404, "no_list", "Your list isn't here yet. It comes with your account: try again in a moment.")
end

-- The caller's own todo of that id, or nil. What is somebody else's doesn't exist for the caller.
local function own_todo(ctx, user, id)
   local todo = id and ctx.db.get("todos", id)
   local list = todo and ctx.db.get("todo_lists", todo.list_id)
   if list and list.user_id == user.id then
      return todo
   end
end

-- The id in the path is text.
local function id_of(request)
   return math.tointeger(tonumber(request.params.id))
end

authkit.routes {
   ["GET /todos"] = function(ctx, request)
      local user = ctx.auth.require() -- answers 401 by itself
      local list = list_of(ctx, user.id)
      if not list then
         return no_list_yet()
      end
      return { name = list.name, todos = authkit.json.array(todos_of(ctx, list):all()) }
   end,

   ["POST /todos"] = function(ctx, request)
      local user = ctx.auth.require()
      local list = list_of(ctx, user.id)
      if not list then
         return no_list_yet()
      end
      local body = request.json()
      local text = type(body) == "table" and type(body.text) == "string" and body.text:match("^%s*(.-)%s*$")
      if not text or text == "" then
         return refuse(400, "no_text", "A todo wants some text.")
      end
      if #text > 500 then
         return refuse(400, "text_too_long", "That is too long for one todo. Make it two?")
      end
      if todos_of(ctx, list):count() >= 1000 then
         return refuse(409, "list_full", "A thousand todos are enough. Delete some first.")
      end
      local id = ctx.db.insert("todos", { list_id = list._id, text = text, done = false })
      return 201, ctx.db.get("todos", id)
   end,

   ["PATCH /todos/:id"] = function(ctx, request)
      local user = ctx.auth.require()
      local todo = own_todo(ctx, user, id_of(request))
      if not todo then
         return refuse(404, "no_todo", "That todo is gone.")
      end
      local body = request.json()
      if type(body) ~= "table" or type(body.done) ~= "boolean" then
         return refuse(400, "no_done", "Say whether it is done: { \"done\": true }")
      end
      ctx.db.patch("todos", todo._id, { done = body.done })
      return ctx.db.get("todos", todo._id)
   end,

   ["DELETE /todos/:id"] = function(ctx, request)
      local user = ctx.auth.require()
      local todo = own_todo(ctx, user, id_of(request))
      if not todo then
         return refuse(404, "no_todo", "That todo is gone.")
      end
      ctx.db.delete("todos", todo._id)
      return 204, nil
   end,
}
