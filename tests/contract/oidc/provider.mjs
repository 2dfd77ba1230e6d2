// A real OpenID provider on loopback: node provider.mjs PORT REDIRECT_URI. Whoever names themselves
// on its form is who they say; what it claims of them stands in the name.
import { Provider } from 'oidc-provider';

const [port, redirect] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;

const common = {
  redirect_uris: [redirect],
  grant_types: ['authorization_code'],
  response_types: ['code'],
};

// With a fresh key pair at each start, so that a restart is a change of keys.
const { privateKey } = await crypto.subtle.generateKey(
  { name: 'RSASSA-PKCS1-v1_5', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' },
  true,
  ['sign', 'verify'],
);
const { key_ops, ext, ...jwk } = await crypto.subtle.exportKey('jwk', privateKey);

const provider = new Provider(issuer, {
  clients: [
    // All that form-encoding changes.
    { ...common, client_id: 'perennial', client_secret: 'a+b/c=d %&:e', token_endpoint_auth_method: 'client_secret_basic' },
    { ...common, client_id: 'perennial-public', token_endpoint_auth_method: 'none' },
  ],
  jwks: { keys: [{ ...jwk, use: 'sig', alg: 'RS256', kid: `key-${Date.now()}` }] },
  cookies: { keys: ['of a test'] },
  pkce: { required: () => true },
  claims: { openid: ['sub'], email: ['email', 'email_verified'], groups: ['groups'] },
  scopes: ['openid', 'email', 'groups'],
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({
      sub: id,
      ...(id.startsWith('nameless') ? {} : { email: id }),
      email_verified: !id.startsWith('unverified'),
      groups: id.startsWith('lead') ? ['everybody', 'cs-leads'] : ['everybody'],
    }),
  }),
  ttl: { Session: 600, Interaction: 600, Grant: 600, AccessToken: 600, IdToken: 600 },
  // Its pages are not looked at; these would warn that they are its own.
  features: { devInteractions: { enabled: true } },
});

provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
