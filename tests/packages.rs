//! README's table names every package that elock is made of, and no others.

use std::collections::BTreeSet;

const MANIFEST: &str = include_str!("../Cargo.toml");
const README: &str = include_str!("../README.md");

fn in_manifest() -> BTreeSet<&'static str> {
    let dependencies = MANIFEST.split("\n[dependencies]\n").nth(1);
    let dependencies = dependencies.and_then(|rest| rest.split("\n[").next());
    let lines = dependencies.expect("dependencies").lines();
    lines
        .filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name)
        .collect()
}

fn in_readme() -> BTreeSet<&'static str> {
    let table = README.split("\n| feature | packages | what for |\n").nth(1);
    let rows = table.expect("a table").lines().skip(1);
    let rows = rows.take_while(|row| row.starts_with('|'));
    let packages = rows.filter_map(|row| row.split('|').nth(2));
    packages
        .flat_map(|packages| packages.split('`').skip(1).step_by(2))
        .collect()
}

#[test]
fn readme_says_what_elock_is_made_of() {
    assert_eq!(in_manifest(), in_readme());
    assert!(in_readme().len() > 30, "nothing was compared");
}
