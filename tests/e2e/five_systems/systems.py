"""What each of the five systems shows its exporters when it is ill and when it is well, and what is then to happen.

Metric names and labels are those of the real exporters, as `10-adapter.yml` reads them. One alert at least for every
severity of every system.
"""

from __future__ import annotations

from tests.e2e.five_systems.case import Case
from tests.support.feed import Reading, age, counter, gauge

DAY = 86400
FIVE = {"[5m]": "[10s]"}


def _kube_job(failed_ago: float, succeeded_ago: float) -> tuple[Reading, ...]:
    """kube-state-metrics' series of a CronJob whose last Job failed."""
    job = {"namespace": "production", "job_name": "nightly-report-1"}
    owner = {"owner_kind": "CronJob", "owner_name": "nightly-report"}
    cronjob = {"namespace": "production", "cronjob": "nightly-report"}
    return (
        age("kube_job_status_start_time", failed_ago, **job),
        gauge("kube_job_failed", 1, condition="true", **job),
        gauge("kube_job_owner", 1, **job, **owner),
        age("kube_cronjob_status_last_successful_time", succeeded_ago, **cronjob),
    )


def _containers(api_seconds: float) -> tuple[Reading, ...]:
    """The compose services as cAdvisor shows them."""
    service = "container_label_com_docker_compose_service"
    seen = {"api": api_seconds, "mlflow": 0.0, "postgres": 0.0}
    return tuple(
        age("container_last_seen", seconds, name=f"pneumonia-{name}-1", **{service: name})
        for name, seconds in seen.items()
    )


def _errors(prefix: str, failed: str, all_: str, per_second: float) -> tuple[Reading, ...]:
    return counter(f"{prefix}_{failed}", per_second), counter(f"{prefix}_{all_}", 50)


def _idle(share: float) -> tuple[Reading, ...]:
    """node_exporter's processor seconds, of two processors."""
    return tuple(
        counter("node_cpu_seconds_total", seconds, cpu=cpu, mode=mode)
        for cpu in ("0", "1")
        for mode, seconds in (("idle", share), ("user", 1 - share))
    )


SYSTEMS = (
    Case(
        "brainstem",
        "critical",
        "BrainstemDiceDriftHigh",
        "brainstem-segmentation",
        rule="brainstem-dice-drift-high-critical",
        playbook="rollback-model",
        plan="model segmentation: ",
        bad=(gauge("brainstem_segmentation_dice_drift", 0.12),),
        good=(gauge("brainstem_segmentation_dice_drift", 0.01),),
        always=(gauge("brainstem_segmentation_overall_dice", 0.9),),
    ),
    Case(
        "brainstem",
        "critical",
        "BrainstemSuccessRateLow",
        "brainstem-segmentation",
        rule="brainstem-success-rate-low-critical",
        playbook="capture-evidence",
        plan="capture api-log, api-stats, api-metrics into",
        bad=(counter("brainstem_segmentation_success_total", 5),),
        good=(counter("brainstem_segmentation_success_total", 10),),
        always=(counter("brainstem_segmentation_runs_total", 10),),
        windows={"brainstem:success:ratio_rate15m": {"[15m]": "[10s]"}},
    ),
    Case(
        "brainstem",
        "warning",
        "BrainstemCacheCleanupOverdue",
        "brainstem-segmentation",
        rule="brainstem-cache-cleanup-overdue",
        playbook="prune-cache",
        plan="remove the oldest 2 files of cache results (204.8 kB)",
        bad=(gauge("brainstem_cache_size_bytes", 9e9),),
        good=(gauge("brainstem_cache_size_bytes", 5e9),),
        always=(gauge("brainstem_cache_limit_bytes", 1e10),),
    ),
    Case(
        "brainstem",
        "info",
        "BrainstemNewDataAvailable",
        "brainstem-segmentation",
        rule="brainstem-new-data-available",
        playbook="review-item",
        plan="",
        bad=(gauge("brainstem_new_data_volumes", 12),),
        good=(gauge("brainstem_new_data_volumes", 0),),
    ),
    Case(
        "pneumonia",
        "critical",
        "PneumoniaContainerNotRunning",
        "pneumonia-detector",
        rule="pneumonia-container-not-running",
        playbook="capture-evidence",
        plan="capture api-log, api-stats, metrics, health into",
        bad=_containers(api_seconds=300),
        good=_containers(api_seconds=0),
    ),
    Case(
        "pneumonia",
        "warning",
        "PneumoniaErrorRateHigh",
        "pneumonia-detector",
        rule="pneumonia-error-rate-high",
        playbook="capture-evidence",
        plan="capture api-log, api-stats, metrics, health into",
        bad=_errors("pneumonia_detector", "errors_total", "inference_total", 1),
        good=_errors("pneumonia_detector", "errors_total", "inference_total", 0),
        windows={"pneumonia:errors:ratio_rate5m": FIVE},
    ),
    Case(
        "pneumonia",
        "info",
        "PneumoniaScaleCpuWeekly",
        "pneumonia-detector",
        rule="pneumonia-scale-cpu-weekly",
        playbook="review-capacity",
        plan="",
        bad=(gauge("pneumonia_detector_cpu_percent", 95),),
        good=(gauge("pneumonia_detector_cpu_percent", 20),),
        # A week is 28 s and a quarter of a day one: the average has to be covered as it has to be in a week.
        windows={
            "pneumonia:cpu:ratio_avg1w": {
                "[1h] offset 1w": "[5s] offset 28s",
                "[6h]": "[5s]",
                "[1w:6h]": "[28s:1s]",
                "[1w]": "[28s]",
            }
        },
    ),
    Case(
        "pneumonia",
        "info",
        "PneumoniaCriticalAlertsLast24h",
        "pneumonia-detector",
        rule="pneumonia-critical-alerts-last-24h",
        playbook="review-item",
        plan="",
        windows={"PneumoniaCriticalAlertsLast24h": {"[24h]": "[5s]"}},
    ),
    Case(
        "photonic",
        "critical",
        "PhotonicServiceDown",
        "photonic-foundry",
        rule="photonic-service-down",
        playbook="capture-evidence",
        plan="capture service-health, api-health, metrics into",
        bad=(gauge("probe_success", 0, probe="health", instance="http://photonic:8080/health"),),
        good=(gauge("probe_success", 1, probe="health", instance="http://photonic:8080/health"),),
    ),
    Case(
        "photonic",
        "warning",
        "PhotonicRedisPersistenceFailing",
        "photonic-foundry",
        rule="photonic-redis-persistence-failing",
        playbook="diagnose-redis",
        plan="capture what redis redis://127.0.0.1:",
        bad=(gauge("redis_rdb_last_bgsave_status", 0),),
        good=(gauge("redis_rdb_last_bgsave_status", 1),),
        always=(gauge("redis_aof_enabled", 0),),
    ),
    # What critical alerts the day has seen: the one above is fed, this one counts it.
    Case(
        "photonic",
        "info",
        "PhotonicCriticalAlertsLast24h",
        "photonic-foundry",
        rule="photonic-critical-alerts-last-24h",
        playbook="review-item",
        plan="",
        windows={"PhotonicCriticalAlertsLast24h": {"[24h]": "[5s]"}},
    ),
    Case(
        "openalgebra",
        "critical",
        "OpenAlgebraErrorRateHigh",
        "openalgebra",
        rule="openalgebra-error-rate-high",
        playbook="capture-evidence",
        plan="capture api-log, api-stats, health into",
        bad=_errors("openalgebra_api", "errors_total", "requests_total", 2),
        good=_errors("openalgebra_api", "errors_total", "requests_total", 0),
        windows={"openalgebra:api_errors:ratio_rate5m": FIVE},
    ),
    Case(
        "openalgebra",
        "warning",
        "OpenAlgebraCpuHigh",
        "openalgebra",
        rule="openalgebra-cpu-high",
        playbook="snapshot-metrics",
        plan="capture what Prometheus says to load (1 samples), memory (0 samples)",
        bad=_idle(0.05),
        good=_idle(0.9),
        always=(gauge("node_load5", 7.5),),
        windows={"openalgebra:cpu:ratio_rate5m": FIVE},
    ),
    Case(
        "openalgebra",
        "info",
        "OpenAlgebraGpuUnderutilized",
        "openalgebra",
        rule="openalgebra-gpu-underutilized",
        playbook="snapshot-metrics",
        plan="capture what Prometheus says to gpus (2 samples)",
        bad=(gauge("DCGM_FI_DEV_GPU_UTIL", 4, gpu="0"), gauge("DCGM_FI_DEV_GPU_UTIL", 9, gpu="1")),
        good=(gauge("DCGM_FI_DEV_GPU_UTIL", 80, gpu="0"), gauge("DCGM_FI_DEV_GPU_UTIL", 90, gpu="1")),
        always=(gauge("openalgebra_jobs_in_progress", 2),),
        windows={"openalgebra:gpu_util_processing:ratio_avg5m": {"[5m:30s]": "[5s:1s]"}},
    ),
    Case(
        "learning-rec",
        "critical",
        "LearningRecNextPartitionMissing",
        "learning-rec",
        rule="learning-rec-next-partition-missing-critical",
        playbook="create-partitions",
        plan="public.events",
        bad=(gauge("learning_rec_events_current_partition_present", 0),),
        good=(gauge("learning_rec_events_current_partition_present", 1),),
        always=(gauge("learning_rec_events_next_partition_present", 1),),
    ),
    Case(
        "learning-rec",
        "warning",
        "LearningRecRedisEvictionsHigh",
        "learning-rec",
        rule="learning-rec-redis-evictions-high",
        playbook="diagnose-redis",
        plan="capture what redis redis://127.0.0.1:",
        bad=(counter("redis_evicted_keys_total", 40),),
        good=(counter("redis_evicted_keys_total", 2),),
        windows={"learning_rec:redis_evictions:rate5m": FIVE},
    ),
    Case(
        "learning-rec",
        "warning",
        "LearningRecCronJobFailed",
        "learning-rec",
        rule="learning-rec-cronjob-failed-other",
        playbook="",
        plan="",
        bad=_kube_job(failed_ago=600, succeeded_ago=DAY),
        good=_kube_job(failed_ago=600, succeeded_ago=60),
    ),
    Case(
        "learning-rec",
        "warning",
        "LearningRecRdsAboveMaxSafe",
        "learning-rec",
        rule="learning-rec-rds-above-max-safe",
        playbook="review-item",
        plan="",
        bad=(gauge("rds_allocated_storage_bytes", 6e11, dbidentifier="learning-rec-prod"),),
        good=(gauge("rds_allocated_storage_bytes", 1e11, dbidentifier="learning-rec-prod"),),
    ),
    Case(
        "learning-rec",
        "info",
        "LearningRecMilvusItemsHigh",
        "learning-rec",
        rule="learning-rec-milvus-items-high",
        playbook="snapshot-metrics",
        plan="capture what Prometheus says to items (1 samples)",
        bad=(gauge("milvus_rootcoord_entity_num", 5e5, status="loaded", collection_name="content_7"),),
        good=(gauge("milvus_rootcoord_entity_num", 5e4, status="loaded", collection_name="content_7"),),
        always=(
            gauge("learning_rec_milvus_alias_target", 1, alias="content_embeddings", collection="content_7"),
        ),
    ),
)
