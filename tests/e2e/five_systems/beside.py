"""Beside the systems' own alerts: those that hold for every system, those of alerting itself, and remediator's."""

from __future__ import annotations

from tests.e2e.five_systems.case import Case
from tests.support.feed import age, counter, gauge

HOUR = 3600
DAY = 24 * HOUR
FIVE = {"[5m]": "[10s]"}
RPO = {"system": "pneumonia", "data": "rpo-metrics-1h"}

BESIDE = (
    # The tables: the series say whose it is.
    Case(
        "any",
        "critical",
        "RpoExceeded",
        "pushgateway",
        rule="pneumonia-rpo-exceeded-metrics",
        playbook="",
        plan="",
        bad=(age("ops_backup_last_success_timestamp_seconds", 2 * HOUR, **RPO),),
        good=(age("ops_backup_last_success_timestamp_seconds", 60, **RPO),),
        system="pneumonia",
    ),
    Case(
        "any",
        "warning",
        "OpsTaskOverdue",
        "pushgateway",
        rule="brainstem-overdue-spot-check",
        playbook="spot-check",
        plan="",
        bad=(
            age(
                "ops_task_last_success_timestamp_seconds",
                9 * DAY,
                system="brainstem",
                task="weekly-qa-spot-check",
            ),
        ),
        good=(
            age(
                "ops_task_last_success_timestamp_seconds",
                DAY,
                system="brainstem",
                task="weekly-qa-spot-check",
            ),
        ),
        system="brainstem",
    ),
    Case(
        "any",
        "info",
        "RetentionVersionCount",
        "pushgateway",
        rule="brainstem-model-versions",
        playbook="review-item",
        plan="",
        bad=(gauge("ops_store_version_count", 7, system="brainstem", store="model-backup-retention-5"),),
        good=(gauge("ops_store_version_count", 5, system="brainstem", store="model-backup-retention-5"),),
        system="brainstem",
    ),
    # Alerting itself.
    Case(
        "all",
        "critical",
        "NotificationsFailing",
        "alertmanager",
        rule="notifications-failing",
        playbook="",
        plan="",
        bad=(counter("alertmanager_notifications_failed_total", 1, integration="slack"),),
        good=(counter("alertmanager_notifications_failed_total", 0, integration="slack"),),
        always=(counter("alertmanager_notifications_total", 5, integration="slack"),),
        windows={"NotificationsFailing": FIVE},
    ),
    Case(
        "all",
        "warning",
        "PrometheusRemoteWriteBehind",
        "prometheus",
        rule="prometheus-remote-write-behind",
        playbook="",
        plan="",
        bad=(
            age(
                "prometheus_remote_storage_queue_highest_sent_timestamp_seconds",
                300,
                remote_name="thanos",
                url="x",
            ),
        ),
        good=(
            age(
                "prometheus_remote_storage_queue_highest_sent_timestamp_seconds",
                1,
                remote_name="thanos",
                url="x",
            ),
        ),
        always=(age("prometheus_remote_storage_highest_timestamp_in_seconds", 0),),
        windows={"PrometheusRemoteWriteBehind": FIVE},
    ),
    Case(
        "remediator",
        "critical",
        "RemediatorStormHold",
        "remediator-fed",
        rule="remediator-storm-hold",
        playbook="",
        plan="",
        bad=(gauge("remediator_storm_hold", 1),),
        good=(gauge("remediator_storm_hold", 0),),
    ),
    Case(
        "remediator",
        "warning",
        "RemediatorBreakerOpen",
        "remediator-fed",
        rule="remediator-breaker-open",
        playbook="",
        plan="",
        bad=(gauge("remediator_breaker_open", 1, playbook="prune-cache"),),
        good=(gauge("remediator_breaker_open", 0, playbook="prune-cache"),),
    ),
)
