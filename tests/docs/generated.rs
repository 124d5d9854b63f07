//! Pages that are generated from the code. `make docs` writes them anew.

use std::fs;
use std::path::Path;

use targetgate::compose;
use targetgate::metrics::{Described, Metrics};
use targetgate_core::binding::validate::{RULES, Rule};
use targetgate_core::reason::Reason;

#[test]
fn the_page_of_reasons_is_what_the_code_says() {
    let row = |reason: &Reason| {
        let (sentence, remedy) = (reason.sentence(), reason.remedy());
        format!("| `{reason}` | {sentence} | {remedy} |\n")
    };
    let rows: String = Reason::ALL.iter().map(row).collect();
    is(
        "docs/reasons.md",
        &format!(
            "# Reasons\n\n\
             Why something was decided as it was, or is not decided yet. Audit annotations, metrics, logs, \
             conditions and Events use these words. A condition that ELB's answer gives has ELB's own \
             reason instead, such as `Elb.InitialHealthChecking`.\n\n\
             <!-- Written from core/src/reason.rs by `make docs`. -->\n\n\
             | reason | what it means | what to do |\n| --- | --- | --- |\n{rows}"
        ),
    );
}

#[test]
fn the_page_of_metrics_is_what_is_served() {
    let metrics = Metrics::default();
    compose::register(&metrics);
    let row = |metric: &Described| {
        let (name, kind) = (metric.name(), metric.kind());
        format!("| `{name}` | {kind} | {} |\n", metric.help)
    };
    let rows: String = metrics.described().iter().map(row).collect();
    is(
        "docs/metrics.md",
        &format!(
            "# Metrics\n\n\
             Port 8080 serves them at `/metrics`, in the text format of Prometheus, or as OpenMetrics where `Accept` asks for \
             it. Every label value comes from a bounded set.\n\n\
             <!-- Written from the code by `make docs`. -->\n\n\
             | metric | type | what it is |\n| --- | --- | --- |\n{rows}"
        ),
    );
}

#[test]
fn the_page_of_binding_rules_is_what_the_code_checks() {
    let row = |rule: &Rule| {
        let (name, on, field) = (rule.name, rule.on, rule.field);
        let (demands, consequence) = (rule.demands, rule.consequence());
        format!("| `{name}` | {on} | `{field}` | {demands} | {consequence} |\n")
    };
    let rows: String = RULES.iter().map(row).collect();
    is(
        "docs/binding-rules.md",
        &format!(
            "# Rules of bindings\n\n\
             The validating hook checks a `TargetGroupBinding` of `elbv2.k8s.aws` against these rules. A denial \
             lists every rule that the binding breaks, in this order, each with its field. A rule about AWS \
             passes where AWS does not answer, and the API server's client is warned. An UPDATE that leaves \
             `spec` as it was is allowed whatever the binding says.\n\n\
             <!-- Written from core/src/binding/validate/rules.rs by `make docs`. -->\n\n\
             | rule | on | field | what it says of the field | a binding that breaks it is |\n\
             | --- | --- | --- | --- | --- |\n{rows}"
        ),
    );
}

#[test]
fn the_schema_of_explanations_is_that_of_the_types() {
    let schema = serde_json::to_string_pretty(&targetgate_core::explain::schema());
    is(
        "docs/explain.schema.json",
        &format!("{}\n", schema.unwrap()),
    );
}

#[test]
fn the_schema_of_diagnoses_is_that_of_the_types() {
    let schema = serde_json::to_string_pretty(&targetgate_core::doctor::schema());
    is("docs/doctor.schema.json", &format!("{}\n", schema.unwrap()));
}

/// Fails unless the page is this text. With `UPDATE_DOCS` set, it writes the page first.
fn is(page: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "{page} is older than the code: run `make docs`"
    );
}
