"""The first tables and views."""

import sqlalchemy as sa
from alembic import op

from telemetry.storage import views

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make every table, then the views on them."""
    op.create_table(
        "clock_anchor",
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("boot", sa.Text(), nullable=False),
        sa.Column("time_namespace", sa.BigInteger(), nullable=False),
        sa.Column("mono_ns", sa.BigInteger(), nullable=False),
        sa.Column("wall_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("machine", "boot", "time_namespace", name=op.f("pk_clock_anchor")),
    )
    op.create_table(
        "host",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_host")),
        sa.UniqueConstraint("machine", name=op.f("uq_host_machine")),
    )
    op.create_table(
        "reading",
        sa.Column("device", sa.Integer(), nullable=False),
        sa.Column("t_ns", sa.BigInteger(), nullable=False),
        sa.Column("power_instant_mw", sa.Integer(), nullable=True),
        sa.Column("power_average_mw", sa.Integer(), nullable=True),
        sa.Column("energy_mj", sa.BigInteger(), nullable=True),
        sa.Column("integral_uj", sa.BigInteger(), nullable=True),
        sa.Column("since_ns", sa.BigInteger(), nullable=False),
        sa.Column("latency_us", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("device", "t_ns", name=op.f("pk_reading")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "token_chunk",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("request", sa.Integer(), nullable=False),
        sa.Column("first_index", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("start_ns", sa.BigInteger(), nullable=False),
        sa.Column("gaps_us", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token_chunk")),
    )
    op.create_index("ix_token_chunk_place", "token_chunk", ["run", "request", "first_index"], unique=True)
    op.create_table(
        "vitals",
        sa.Column("device", sa.Integer(), nullable=False),
        sa.Column("t_ns", sa.BigInteger(), nullable=False),
        sa.Column("temperature_c", sa.Integer(), nullable=True),
        sa.Column("memory_temp_c", sa.Integer(), nullable=True),
        sa.Column("memory_used_bytes", sa.BigInteger(), nullable=True),
        sa.Column("memory_reserved_bytes", sa.BigInteger(), nullable=True),
        sa.Column("util_gpu_pct", sa.Integer(), nullable=True),
        sa.Column("util_memory_pct", sa.Integer(), nullable=True),
        sa.Column("clock_sm_mhz", sa.Integer(), nullable=True),
        sa.Column("clock_memory_mhz", sa.Integer(), nullable=True),
        sa.Column("power_limit_mw", sa.BigInteger(), nullable=True),
        sa.Column("throttle_reasons", sa.BigInteger(), nullable=True),
        sa.Column("throttle_power_cap_ns", sa.BigInteger(), nullable=True),
        sa.Column("throttle_sync_boost_ns", sa.BigInteger(), nullable=True),
        sa.Column("throttle_sw_thermal_ns", sa.BigInteger(), nullable=True),
        sa.Column("throttle_hw_thermal_ns", sa.BigInteger(), nullable=True),
        sa.Column("throttle_power_brake_ns", sa.BigInteger(), nullable=True),
        sa.Column("processes", sa.Text(), nullable=True),
        sa.Column("power_max_mw", sa.Integer(), nullable=True),
        sa.Column("power_min_mw", sa.Integer(), nullable=True),
        sa.Column("polls", sa.Integer(), nullable=False),
        sa.Column("misses", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("device", "t_ns", name=op.f("pk_vitals")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "clock_step",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("host", sa.Integer(), nullable=False),
        sa.Column("t_ns", sa.BigInteger(), nullable=False),
        sa.Column("offset_ns", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["host"], ["host.id"], name=op.f("fk_clock_step_host_host")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clock_step")),
    )
    op.create_table(
        "device",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("host", sa.Integer(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("idx", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("boundary", sa.Text(), nullable=False),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("energy_path", sa.Text(), nullable=True),
        sa.Column("integral_of", sa.Text(), nullable=True),
        sa.Column("driver", sa.Text(), nullable=True),
        sa.Column("vbios", sa.Text(), nullable=True),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("power_limit_mw", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["host"], ["host.id"], name=op.f("fk_device_host_host")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device")),
        sa.UniqueConstraint("uid", name=op.f("uq_device_uid")),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("experiment", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("runner", sa.Text(), nullable=True),
        sa.Column("quantisation", sa.Text(), nullable=True),
        sa.Column("batch_size", sa.Integer(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("warmup", sa.Boolean(), nullable=False),
        sa.Column("repeat", sa.Integer(), nullable=True),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=True),
        sa.Column("host", sa.Integer(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("start_ns", sa.BigInteger(), nullable=False),
        sa.Column("stop_ns", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["host"], ["host.id"], name=op.f("fk_run_host_host")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
        sa.UniqueConstraint("uid", name=op.f("uq_run_uid")),
    )
    op.create_index(op.f("ix_run_start_ns"), "run", ["start_ns"], unique=False)
    op.create_table(
        "session",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("host", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("start_ns", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat_ns", sa.BigInteger(), nullable=False),
        sa.Column("stop_ns", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("polls", sa.BigInteger(), nullable=True),
        sa.Column("missed", sa.BigInteger(), nullable=True),
        sa.Column("failures", sa.Text(), nullable=True),
        sa.Column("latency_p99_ns", sa.BigInteger(), nullable=True),
        sa.Column("queue_peak", sa.Integer(), nullable=True),
        sa.Column("cpu_ns", sa.BigInteger(), nullable=True),
        sa.Column("dropped_rows", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["host"], ["host.id"], name=op.f("fk_session_host_host")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session")),
        sa.UniqueConstraint("uid", name=op.f("uq_session_uid")),
    )
    op.create_table(
        "gap",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device", sa.Integer(), nullable=False),
        sa.Column("from_ns", sa.BigInteger(), nullable=False),
        sa.Column("to_ns", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["device.id"], name=op.f("fk_gap_device_device")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gap")),
    )
    op.create_index("ix_gap_device_to", "gap", ["device", "to_ns"], unique=False)
    op.create_table(
        "import_file",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("session", sa.Integer(), nullable=False),
        sa.Column("tz_given", sa.Boolean(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["session"], ["session.id"], name=op.f("fk_import_file_session_session")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_import_file")),
    )
    op.create_table(
        "request",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("submitted_ns", sa.BigInteger(), nullable=False),
        sa.Column("started_ns", sa.BigInteger(), nullable=True),
        sa.Column("first_token_ns", sa.BigInteger(), nullable=True),
        sa.Column("last_token_ns", sa.BigInteger(), nullable=True),
        sa.Column("ended_ns", sa.BigInteger(), nullable=True),
        sa.Column("input_tokens", sa.Integer(), nullable=True),
        sa.Column("cached_tokens", sa.Integer(), nullable=True),
        sa.Column("output_tokens", sa.Integer(), nullable=True),
        sa.Column("finish_reason", sa.Text(), nullable=True),
        sa.Column("count_source", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run"], ["run.id"], name=op.f("fk_request_run_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_request")),
        sa.UniqueConstraint("run", "number", name="uq_request_run_number"),
    )
    op.create_table(
        "result",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("device", sa.Integer(), nullable=False),
        sa.Column("request", sa.Integer(), nullable=False),
        sa.Column("quantity", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("lo", sa.Float(), nullable=True),
        sa.Column("hi", sa.Float(), nullable=True),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("grade", sa.Text(), nullable=False),
        sa.Column("flags", sa.Text(), nullable=False),
        sa.Column("analysis_version", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.id"], name=op.f("fk_result_run_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_result")),
        sa.UniqueConstraint("run", "device", "request", "quantity", name="uq_result_run_quantity"),
    )
    op.create_table(
        "run_device",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("device", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["device.id"], name=op.f("fk_run_device_device_device")),
        sa.ForeignKeyConstraint(["run"], ["run.id"], name=op.f("fk_run_device_run_run")),
        sa.PrimaryKeyConstraint("run", "device", name=op.f("pk_run_device")),
    )
    op.create_table(
        "session_device",
        sa.Column("session", sa.Integer(), nullable=False),
        sa.Column("device", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["device.id"], name=op.f("fk_session_device_device_device")),
        sa.ForeignKeyConstraint(["session"], ["session.id"], name=op.f("fk_session_device_session_session")),
        sa.PrimaryKeyConstraint("session", "device", name=op.f("pk_session_device")),
    )
    for name in views.NAMES:
        op.execute(sa.text(views.statement(name).replace(":", "\\:")))


def downgrade() -> None:
    """Drop everything."""
    for name in reversed(views.NAMES):
        op.execute(f"DROP VIEW {name}")
    op.drop_table("session_device")
    op.drop_table("run_device")
    op.drop_table("result")
    op.drop_table("request")
    op.drop_table("import_file")
    op.drop_index("ix_gap_device_to", table_name="gap")
    op.drop_table("gap")
    op.drop_table("session")
    op.drop_index(op.f("ix_run_start_ns"), table_name="run")
    op.drop_table("run")
    op.drop_table("device")
    op.drop_table("clock_step")
    op.drop_table("vitals")
    op.drop_index("ix_token_chunk_place", table_name="token_chunk")
    op.drop_table("token_chunk")
    op.drop_table("reading")
    op.drop_table("host")
    op.drop_table("clock_anchor")
