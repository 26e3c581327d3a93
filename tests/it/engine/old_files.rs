//! Volumes whose old files go by themselves.

use serde_json::{Value, json};

use super::{SOON, at_data};
use crate::support::daemon::{Lab, within};
use crate::support::host::{Host, for_each_kind, on_newest};

for_each_kind!(old_files_are_listed_at_first_and_removed_a_day_later);

const MAKE: &str = "mkdir -p /data/app; echo new > /data/new.log; echo new > /data/app/new.log; \
     for name in old.log app/old.log; do echo old > /data/$name; touch -d 202001010000 /data/$name; \
     done; sync";

fn files(host: &Host, volume: &str) -> Value {
    host.docker().inspect(volume)["Status"]["files"].clone()
}

fn there(host: &Host, container: &str) -> String {
    host.docker().exec(container, "cd /data; find . -type f | sort | xargs")
}

fn old_files_are_listed_at_first_and_removed_a_day_later() {
    on_newest(|host| {
        let (volume, container) = (host.volume(&["size=64M", "keep-files=90d"]), host.fresh("c"));
        host.docker().idle(&container, at_data!(volume));
        assert!(within(SOON, || files(host, &volume)["listed"].is_string()), "no first run");
        host.docker().exec(&container, MAKE);
        let all = there(host, &container);
        let said = host.tool(&["old-files", &volume]);
        assert!(said.contains("app/old.log\n") && said.contains("2 files"), "{said}");
        assert!(said.contains("would be removed"), "{said}");

        // As if it had never been looked for.
        let lab = Lab::of_environment();
        lab.edit_record(&volume, |record| record["files"] = Value::Null);
        assert!(within(SOON, || files(host, &volume)["count"] == 2), "{}", files(host, &volume));
        assert_eq!(files(host, &volume)["removed"], Value::Null);
        assert_eq!(there(host, &container), all, "the first run only lists");
        assert!(host.log().contains("old files only listed"), "it is not in the log");
        assert!(host.tool(&["inspect", &volume]).contains("the next run removes them"));

        // As if a day had gone by.
        let long_ago = json!("2026-01-01T00:00:00Z");
        lab.edit_record(&volume, |record| record["files"]["looked"] = long_ago.clone());
        let removed = || files(host, &volume)["removed"].is_string();
        assert!(within(SOON, removed), "{}", files(host, &volume));
        assert_eq!(there(host, &container), "./app/new.log ./new.log");
        assert_eq!(files(host, &volume)["count"], 2);

        host.docker().exec(&container, MAKE);
        let said = host.tool(&["old-files", &volume, "--remove"]);
        assert!(said.contains("2 files") && said.ends_with(", removed\n"), "{said}");
        assert_eq!(there(host, &container), "./app/new.log ./new.log");
        host.docker().ok(&["rm", "--force", &container]);
        host.assert_released();
        let output = host.try_tool(&["old-files", &volume]);
        assert_eq!(output.status.code(), Some(2), "it is not mounted: {output:?}");
    });
}
