-- Chats are kept by the server: the whole tree of turns as one document, with a number that goes up with every change.
alter table conversations add column document_json text not null default '{"turns":[]}';
alter table conversations add column search_text text not null default '';   -- title and turns in lower case
alter table conversations add column recorded integer not null default 1 check (recorded in (0, 1));
alter table conversations add column revision integer not null default 1;
