"""What was worked out of a run in one piece, for reports of many runs; and what each request cost by itself."""

import sqlalchemy as sa
from alembic import op

from telemetry.storage import views

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table, which the next report fills, and make the views anew that have gained columns."""
    op.create_table(
        "analysis",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.id"], name=op.f("fk_analysis_run_run")),
        sa.PrimaryKeyConstraint("run", name=op.f("pk_analysis")),
    )
    for name in ("v_request", "v_run_best", "v_ranking"):
        op.execute(f"DROP VIEW {name}")
        op.execute(views.statement(name))


def downgrade() -> None:
    """Take it away again."""
    op.drop_table("analysis")
