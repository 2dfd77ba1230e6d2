-- After a restore: nothing is sent until `perennial notify release-restored`. What waited may have
-- been sent since the backup was made. Once more, it changes nothing.
DO $$
BEGIN
    IF to_regclass('notifier.restores') IS NULL THEN
        RETURN; -- a backup of a release that knew no hold: restore.sh comes here again
    END IF;
    INSERT INTO notifier.restores (restored_at)
    SELECT now() WHERE NOT EXISTS (SELECT FROM notifier.restores WHERE released_at IS NULL);
    UPDATE notifier.deliveries SET state = 'restored', claim = NULL, is_due = false
    WHERE state IN ('pending', 'sending');
END $$;
