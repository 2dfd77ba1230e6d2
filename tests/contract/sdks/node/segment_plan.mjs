// The usual B2B tracking plan with @segment/analytics-node.

import { Analytics } from '@segment/analytics-node';

import { TRAITS, failed, play, report, script } from './script.mjs';

await play(async () => {
  const analytics = new Analytics({
    writeKey: script.key,
    host: script.url,
    flushAt: 10,
    flushInterval: 100,
  });
  analytics.on('error', (error) => failed(error.reason ?? error));
  for (let number = 0; number < script.plans; number += 1) {
    const [userId, groupId] = script.planned(number);
    analytics.identify({ userId, traits: { plan: 'pro' } });
    analytics.group({ userId, groupId, traits: TRAITS });
    await analytics.flush();
    for (let n = 0; n < script.exports; n += 1) {
      analytics.track({ userId, event: 'Report Exported', properties: { n } });
    }
    await analytics.flush();
    report.sent += 2 + script.exports;
  }
  await analytics.closeAndFlush({ timeout: 60_000 });
});
