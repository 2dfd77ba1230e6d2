// The script with @rudderstack/rudder-sdk-node.

import Analytics from '@rudderstack/rudder-sdk-node';

import { CUT, TRAITS, failed, play, report, script } from './script.mjs';

await play(async () => {
  const analytics = new Analytics(script.key, {
    dataPlaneUrl: script.url,
    gzip: script.gzip,
    flushAt: 100,
    flushInterval: 100,
    errorHandler: failed,
  });
  const userId = script.user(0);
  const groupId = script.account(0);
  const context = { groupId };
  analytics.identify({ userId, traits: { email: 'u@example.com' }, context });
  analytics.group({ userId, groupId, traits: TRAITS });
  const properties = { url: '/start' };
  analytics.page({ userId, category: 'Docs', name: 'Start', properties, context });
  analytics.screen({ userId, category: 'Settings', name: 'Team', properties: { tab: 2 }, context });
  analytics.alias({ userId, previousId: 'before', context });
  report.sent = 5;
  for (let number = 0; number < script.exports; number += 1) {
    analytics.track({
      userId: script.user(number),
      event: 'Report Exported',
      properties: { account_id: script.account(number), n: number, ratio: NaN, cut: CUT },
      timestamp: script.time(number),
    });
    report.sent += 1;
  }
  while (analytics.queue.length) await analytics.flush();
  await analytics.flush();
});
