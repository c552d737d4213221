"""The tables, as SQLAlchemy sees them; migrations create them, and a test holds both together.

Integers are in the driver's own unit (mW, mJ, bytes); `t_ns` and all `*_ns` are on the host's steady
clock. docs/store.md describes every column.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

host = Table(
    "host",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("machine", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
)

clock_anchor = Table(
    "clock_anchor",
    metadata,
    Column("machine", Text, primary_key=True),
    Column("boot", Text, primary_key=True),
    Column("time_namespace", BigInteger, primary_key=True),
    Column("mono_ns", BigInteger, nullable=False),
    Column("wall_ns", BigInteger, nullable=False),
)

clock_step = Table(
    "clock_step",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("host", ForeignKey("host.id"), nullable=False),
    Column("t_ns", BigInteger, nullable=False),
    Column("offset_ns", BigInteger, nullable=False),
    Column("cause", Text, nullable=False),
)

device = Table(
    "device",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
    Column("host", ForeignKey("host.id")),
    Column("name", Text, nullable=False),
    Column("idx", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("boundary", Text, nullable=False),
    Column("simulated", Boolean(create_constraint=False), nullable=False),
    Column("energy_path", Text),
    Column("integral_of", Text),
    Column("driver", Text),
    Column("vbios", Text),
    Column("memory_bytes", BigInteger),
    Column("power_limit_mw", BigInteger),
)

session = Table(
    "session",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
    Column("host", ForeignKey("host.id"), nullable=False),
    Column("source", Text, nullable=False),
    Column("settings", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("start_ns", BigInteger, nullable=False),
    Column("heartbeat_ns", BigInteger, nullable=False),
    Column("stop_ns", BigInteger),
    Column("state", Text, nullable=False),  # open, clean, unclean
    Column("polls", BigInteger),
    Column("missed", BigInteger),
    Column("failures", Text),
    Column("latency_p99_ns", BigInteger),
    Column("queue_peak", Integer),
    Column("cpu_ns", BigInteger),
    Column("dropped_rows", BigInteger),
)

session_device = Table(
    "session_device",
    metadata,
    Column("session", ForeignKey("session.id"), primary_key=True),
    Column("device", ForeignKey("device.id"), primary_key=True),
)

reading = Table(
    "reading",
    metadata,
    Column("device", Integer, primary_key=True),
    Column("t_ns", BigInteger, primary_key=True),
    Column("power_instant_mw", Integer),
    Column("power_average_mw", Integer),
    Column("energy_mj", BigInteger),
    Column("integral_uj", BigInteger),
    Column("since_ns", BigInteger, nullable=False),
    Column("latency_us", Integer, nullable=False),
    sqlite_with_rowid=False,
)

vitals = Table(
    "vitals",
    metadata,
    Column("device", Integer, primary_key=True),
    Column("t_ns", BigInteger, primary_key=True),
    Column("temperature_c", Integer),
    Column("memory_temp_c", Integer),
    Column("memory_used_bytes", BigInteger),
    Column("memory_reserved_bytes", BigInteger),
    Column("util_gpu_pct", Integer),
    Column("util_memory_pct", Integer),
    Column("clock_sm_mhz", Integer),
    Column("clock_memory_mhz", Integer),
    Column("power_limit_mw", BigInteger),
    Column("throttle_reasons", BigInteger),
    Column("throttle_power_cap_ns", BigInteger),
    Column("throttle_sync_boost_ns", BigInteger),
    Column("throttle_sw_thermal_ns", BigInteger),
    Column("throttle_hw_thermal_ns", BigInteger),
    Column("throttle_power_brake_ns", BigInteger),
    Column("processes", Text),
    Column("power_max_mw", Integer),
    Column("power_min_mw", Integer),
    Column("polls", Integer, nullable=False),
    Column("misses", Integer, nullable=False),
    sqlite_with_rowid=False,
)

gap = Table(
    "gap",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device", ForeignKey("device.id"), nullable=False),
    Column("from_ns", BigInteger, nullable=False),
    Column("to_ns", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Index("ix_gap_device_to", "device", "to_ns"),
)

run = Table(
    "run",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
    Column("name", Text),
    Column("experiment", Text),
    Column("model", Text),
    Column("runner", Text),
    Column("quantisation", Text),
    Column("batch_size", Integer, nullable=False),
    Column("concurrency", Integer, nullable=False),
    Column("warmup", Boolean(create_constraint=False), nullable=False),
    Column("repeat", Integer),
    Column("position", Integer),
    Column("settings", Text, nullable=False),
    Column("environment", Text),
    Column("host", ForeignKey("host.id"), nullable=False),
    Column("pid", Integer),
    Column("start_ns", BigInteger, nullable=False, index=True),
    Column("stop_ns", BigInteger),
    Column("status", Text, nullable=False),  # open, ok, failed
    Column("error", Text),
    Column("flags", Text, nullable=False, server_default="[]"),  # what spoke against the run while it was recorded
)

environment = Table(
    "environment",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("snapshot", Text, nullable=False),
)

experiment = Table(
    "experiment",
    metadata,
    Column("uid", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("plan_hash", Text, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
)

run_device = Table(
    "run_device",
    metadata,
    Column("run", ForeignKey("run.id"), primary_key=True),
    Column("device", ForeignKey("device.id"), primary_key=True),
)

request = Table(
    "request",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run", ForeignKey("run.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("submitted_ns", BigInteger, nullable=False),
    Column("started_ns", BigInteger),
    Column("first_token_ns", BigInteger),
    Column("last_token_ns", BigInteger),
    Column("ended_ns", BigInteger),
    Column("input_tokens", Integer),
    Column("cached_tokens", Integer),
    Column("output_tokens", Integer),
    Column("finish_reason", Text),
    Column("count_source", Text),
    Column("status", Text, nullable=False),  # open, ok, failed
    Column("error", Text),
    UniqueConstraint("run", "number", name="uq_request_run_number"),
)

token_chunk = Table(
    "token_chunk",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run", Integer, nullable=False),
    Column("request", Integer, nullable=False),
    Column("first_index", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("start_ns", BigInteger, nullable=False),
    Column("gaps_us", Text, nullable=False),
    Index("ix_token_chunk_place", "run", "request", "first_index", unique=True),
)

result = Table(
    "result",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run", ForeignKey("run.id"), nullable=False),
    Column("device", Integer, nullable=False),  # 0: all devices of the run together
    Column("request", Integer, nullable=False),  # −1: the run, not one request
    Column("quantity", Text, nullable=False),
    Column("value", Float),
    Column("lo", Float),
    Column("hi", Float),
    Column("method", Text, nullable=False),
    Column("grade", Text, nullable=False),
    Column("flags", Text, nullable=False),
    Column("analysis_version", Text, nullable=False),
    UniqueConstraint("run", "device", "request", "quantity", name="uq_result_run_quantity"),
)

analysis = Table(
    "analysis",
    metadata,
    Column("run", ForeignKey("run.id"), primary_key=True),
    Column("version", Text, nullable=False),
    Column("document", Text, nullable=False),  # JSON
)

import_file = Table(
    "import_file",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("path", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("session", ForeignKey("session.id"), nullable=False),
    Column("tz_given", Boolean(create_constraint=False), nullable=False),
    Column("notes", Text, nullable=False),
)
