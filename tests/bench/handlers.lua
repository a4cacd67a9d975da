-- What the benchmarks run: a todo list for each new user, and nobody from gmail.com.

local authkit = require "authkit"

authkit.schema {
   todo_lists = {
      columns = { name = "text", user_id = "text" },
      indexes = { { "user_id" } },
   },
}

authkit.events {
   ["user.created"] = function(ctx, event)
      ctx.db.insert("todo_lists", {
         name = (event.data.first_name or "My") .. "'s Todo List",
         user_id = event.data.id,
      })
   end,
}

authkit.actions {
   user_registration = function(ctx, action, response)
      if action.user_data.email:find("@gmail%.com$") then
         return response.deny("Gmail accounts are not allowed")
      end
      return response.allow()
   end,
}
