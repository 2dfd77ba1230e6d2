"""What every service needs and none owns: messages, log, database, the frame of a process."""
