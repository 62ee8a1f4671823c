mod endpoints;
mod flows;
mod limits;
mod server;
mod table;
