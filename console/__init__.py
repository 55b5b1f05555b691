"""What people see in a browser: one Starlette app, made by `console.app.build`; a store read into rows by `views`."""
