"""What is kept: rows in PostgreSQL, one module a table and one function a statement; files in an object store."""
