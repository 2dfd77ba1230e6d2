// The usual B2B tracking plan with @rudderstack/rudder-sdk-node.

import Analytics from '@rudderstack/rudder-sdk-node';

import { TRAITS, failed, play, report, script } from './script.mjs';

await play(async () => {
  const analytics = new Analytics(script.key, {
    dataPlaneUrl: script.url,
    gzip: script.gzip,
    flushAt: 10,
    flushInterval: 100,
    errorHandler: failed,
  });
  for (let number = 0; number < script.plans; number += 1) {
    const [userId, groupId] = script.planned(number);
    analytics.identify({ userId, traits: { plan: 'pro' } });
    analytics.group({ userId, groupId, traits: TRAITS });
    while (analytics.queue.length) await analytics.flush();
    for (let n = 0; n < script.exports; n += 1) {
      analytics.track({ userId, event: 'Report Exported', properties: { n } });
    }
    while (analytics.queue.length) await analytics.flush();
    report.sent += 2 + script.exports;
  }
  await analytics.flush();
});
