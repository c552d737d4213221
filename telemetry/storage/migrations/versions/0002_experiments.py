"""What an experiment was planned as, where its runs ran, and what spoke against a run while it was recorded."""

import sqlalchemy as sa
from alembic import op

from telemetry.storage import views

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables and the column, and make the views anew."""
    _drop_views()
    op.create_table(
        "environment",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("snapshot", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_environment")),
    )
    op.create_table(
        "experiment",
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("plan_hash", sa.Text(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_experiment")),
    )
    op.add_column("run", sa.Column("flags", sa.Text(), nullable=False, server_default="[]"))
    _make_views()


def downgrade() -> None:
    """Take them away again."""
    _drop_views()
    op.drop_column("run", "flags")
    op.drop_table("experiment")
    op.drop_table("environment")
    _make_views()


def _drop_views() -> None:
    for name in reversed(views.NAMES):
        op.execute(f"DROP VIEW IF EXISTS {name}")


def _make_views() -> None:
    for name in views.NAMES:
        op.execute(sa.text(views.statement(name).replace(":", "\\:")))
