"""What was worked out of a run in one piece, for reports of many runs."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; the next report fills it."""
    op.create_table(
        "analysis",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.id"], name=op.f("fk_analysis_run_run")),
        sa.PrimaryKeyConstraint("run", name=op.f("pk_analysis")),
    )


def downgrade() -> None:
    """Take it away again."""
    op.drop_table("analysis")
