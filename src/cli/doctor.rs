//! stub
use super::*;
pub(super) fn run(_m: &ArgMatches, _t: &Tool) -> Result<Outcome, Failure> {
    todo!()
}
