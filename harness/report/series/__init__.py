"""What people and programs read of a series: the table on a terminal, as a page, as JSON, and as a mail."""
