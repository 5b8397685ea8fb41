//! PromQL: lexer, parser, printer, planner, engine, functions, the API's result JSON and the promqltest
//! script language.

pub mod api_json;
pub mod engine;
pub mod functions;
pub mod parser;
pub mod script;
