// Who is signed in. The session itself is a cookie that scripts can't read; this only knows whom it belongs to.
import { call, onSignedOut, ApiError, explain } from './api/client';
import type { Role, SessionAnswer, User } from './api/types';

const order: readonly Role[] = ['user', 'labeler', 'operator', 'admin'];

class Session {
  user = $state.raw<User | null>(null);
  /** False until the first answer of the server. */
  known = $state(false);
  /** Why the server couldn't say who is signed in. */
  problem = $state<string | null>(null);

  constructor() {
    onSignedOut(() => (this.user = null));
  }

  /** Asks the server who is signed in. */
  async resume(): Promise<void> {
    this.problem = null;
    try {
      this.user = (await call<SessionAnswer>('/v1/session')).user;
    } catch (error) {
      this.user = null;
      if (!(error instanceof ApiError && error.status === 401)) this.problem = explain(error);
    }
    this.known = true;
  }

  /** Signs in with the one-time token of a sign-in URL, or with an API key. */
  async signIn(secret: { token: string } | { api_key: string }): Promise<void> {
    this.user = (await call<SessionAnswer>('/v1/session', { method: 'POST', body: secret })).user;
    this.known = true;
    this.problem = null;
  }

  async signOut(): Promise<void> {
    await call('/v1/session', { method: 'DELETE' });
    this.user = null;
  }

  /** Whether the person's role reaches at least this one. */
  may(role: Role): boolean {
    return this.user !== null && order.indexOf(this.user.role) >= order.indexOf(role);
  }
}

/** The one session of the page. */
export const session = new Session();
