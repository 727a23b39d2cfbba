-- Who stored a revision: the name of a token, or `cli:` and an account; null for what is older.
ALTER TABLE workflows ADD COLUMN actor text;
