//! What azsreg does with servers that mean it ill: each misbehaviour a row with the code that the operator sees, what the
//! server received, the memory that azsreg took at most and the time.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod pep;
