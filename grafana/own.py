"""The two dashboards that are no document's: the operations of all systems, and remediator itself."""

from __future__ import annotations

from collections.abc import Iterable

from panels import Panel, Row


def firing(selector: str) -> Panel:
    """Return the panel that shows which alerts fire, over time."""
    expr = f'max by (alertname, severity) (ALERTS{{{selector}alertstate="firing"}})'
    return Panel("Alerts that fire", [(expr, "{{severity}} {{alertname}}")], kind="state-timeline")


def operations() -> list[Row]:
    """Return the dashboard of tasks, backups, recoveries, response times and retentions, for one system or all."""
    here = '{system=~"$system"}'

    def against(title: str, measured: str, labels: str, limit: str, unit: str = "s") -> Panel:
        legend = " ".join(f"{{{{{label}}}}}" for label in labels.split(", "))
        return Panel(title, [(measured, legend), (f"ops:{limit}:config{here}", f"allowed {legend}")], unit)

    def age(metric: str, labels: str) -> str:
        return f"time() - max by ({labels}) ({metric}{here})"

    task, data, scope, store = "system, task", "system, data", "system, scope", "system, store"
    oldest, version = f"ops_store_oldest_item_age_seconds{here}", f"ops_store_version_count{here}"
    kept = f"ops_store_configured_retention_seconds{here}"
    since = f"time() - min by (alertname, system, response_class) (remediator_alert_firing_since_timestamp_seconds{here})"
    return [
        Row("Now", (firing('system=~"$system",'),)),
        Row(
            "Tasks",
            (
                against("Age of the last success", age("ops_task_last_success_timestamp_seconds", task), task, "task_max_age_seconds"),
                against("Duration of the last run", f"max by ({task}) (ops_task_last_duration_seconds{here})", task, "task_max_duration_seconds"),
            ),
        ),
        Row(
            "Backups and recoveries",
            (
                against("Age of the last backup (RPO)", age("ops_backup_last_success_timestamp_seconds", data), data, "rpo_seconds"),
                against("Running recovery (RTO)", age("ops_recovery_started_timestamp_seconds", scope), scope, "rto_seconds"),
                against("Last recovery drill (RTO)", f"max by ({scope}) (ops_recovery_drill_duration_seconds{here})", scope, "rto_seconds"),
            ),
        ),
        Row(
            "Retention and response",
            (
                against("Oldest item", f"max by ({store}) ({oldest})", store, "retention_max_age_seconds"),
                against("Configured retention", f"min by ({store}) ({kept})", store, "retention_min_age_seconds"),
                against("Versions kept", f"max by ({store}) ({version})", store, "retention_versions", "short"),
                Panel(
                    "Alerts by age, and response targets",
                    [(since, "{{alertname}}"), ("ops:response_target_seconds:config", "target {{response_class}}")],
                    "s",
                ),
            ),
        ),
    ]  # fmt: skip


def remediator() -> list[Row]:
    """Return the dashboard of our own metrics."""

    def rate(metric: str, by: str, selector: str = "") -> list[tuple[str, str]]:
        legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
        return [(f"sum by ({by}) (rate({metric}{selector}[$__rate_interval]))", legend)]

    def increase(metric: str, by: str, selector: str = "") -> list[tuple[str, str]]:
        legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
        return [(f"sum by ({by}) (increase({metric}{selector}[$__rate_interval]))", legend)]

    def quantiles(metric: str, by: str) -> list[tuple[str, str]]:
        return [
            (
                f"histogram_quantile({q}, sum by (le, {by}) (rate({metric}_bucket[$__rate_interval])))",
                f"p{q * 100:g} {{{{{by}}}}}",
            )
            for q in (0.5, 0.99)
        ]

    def figure(title: str, expr: str, unit: str = "short", lines: Iterable[tuple[float, str]] = ()) -> Panel:
        return Panel(title, [(expr, "")], unit, "stat", lines=set(lines))

    broken = {(1.0, "critical")}
    canary = "time() - max(remediator_canary_last_seen_timestamp_seconds)"
    return [
        Row(
            "State",
            (
                figure("Replicas that run", "count(remediator_build_info)"),
                figure("Ready", "min(remediator_ready)"),
                figure("Rules in the table", "max(remediator_rules)"),
                figure("Last reload taken over", "min(remediator_reload_successful)"),
                figure("Held by a storm", "max(remediator_storm_hold)", lines=broken),
                figure("Journal broken", "max(remediator_journal_broken)", lines=broken),
                figure("Canary last seen", canary, "s", {(900.0, "critical")}),
                figure("Plans that wait for a person", "max(remediator_approvals_waiting)"),
                figure("The longest wait", "max(remediator_approval_oldest_waiting_seconds)", "s", {(900.0, "warning")}),
            ),
        ),
        Row(
            "Remediations",
            (
                Panel("Ended, by outcome", increase("remediator_remediations_total", "outcome")),
                Panel("Ended, by playbook", increase("remediator_remediations_total", "playbook, outcome")),
                Panel("Under way, by phase", [("sum by (phase) (remediator_active_remediations)", "{{phase}}")]),
                Panel("Denials, by guard", increase("remediator_guard_verdicts_total", "guard", '{verdict!="allow"}')),
                Panel("Votes on plans", increase("remediator_votes_total", "outcome")),
                Panel("Breakers open", [("max by (playbook) (remediator_breaker_open)", "{{playbook}}")]),
            ),
        ),
        Row(
            "Ingest",
            (
                Panel("Posts committed and refused", [
                    ("sum(rate(remediator_webhook_received_total[$__rate_interval]))", "committed"),
                    *rate("remediator_webhook_rejected_total", "reason"),
                ], "reqps"),
                Panel("Alerts, by what they were", rate("remediator_alerts_total", "outcome"), "cps"),
                Panel("Alerts cut from notifications", [("sum(increase(remediator_truncated_alerts_total[$__rate_interval]))", "cut")]),
                Panel("Stages", quantiles("remediator_stage_seconds", "stage"), "s"),
                Panel("Requests", quantiles("remediator_http_seconds", "route"), "s"),
                Panel("Ledger: transactions and errors", [
                    ("sum(rate(remediator_ledger_commits_total[$__rate_interval]))", "transactions"),
                    ("sum(rate(remediator_ledger_errors_total[$__rate_interval]))", "errors"),
                ], "ops"),
                Panel("Messages of the outbox", increase("remediator_messages_total", "outcome")),
                Panel("Slack's requests to us", increase("remediator_slack_requests_total", "outcome")),
            ),
        ),
        Row("Alerts about ourselves", (firing('system="remediator",'),)),
    ]  # fmt: skip
