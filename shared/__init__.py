"""What every service needs and none owns: messages, the log, the database, the frame of a process."""
